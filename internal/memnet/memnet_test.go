package memnet

import (
	"context"
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
)

func TestListener_ConnectsRefusesAndCuts(t *testing.T) {
	l := Listen()
	accepted := make(chan net.Conn, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			accepted <- c
		}
	}()

	client, err := l.Dial(context.Background(), "tcp", "anywhere:1")
	if err != nil {
		t.Fatal(err)
	}
	server := <-accepted
	go func() { _, _ = server.Write([]byte("hello")) }()
	buf := make([]byte, 5)
	if _, err := io.ReadFull(client, buf); err != nil || string(buf) != "hello" {
		t.Fatalf("read %q, %v", buf, err)
	}

	l.Refuse(true)
	if _, err := l.Dial(context.Background(), "tcp", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial while refusing: %v", err)
	}
	l.Refuse(false)
	if n := l.Open(); n != 1 {
		t.Errorf("%d connections are open, want 1", n)
	}

	l.Cut()
	if _, err := client.Read(buf); !errors.Is(err, io.EOF) {
		t.Errorf("read after a cut: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := l.Dial(ctx, "tcp", ""); !errors.Is(err, context.Canceled) {
		t.Errorf("dial with nobody accepting: %v", err)
	}
	_ = l.Close()
	if _, err := l.Dial(context.Background(), "tcp", ""); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("dial after close: %v", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after close: %v", err)
	}
}
