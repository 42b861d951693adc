//go:build linux

package load

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// store is a Redis or memcached that knows what the generator says.
func store(t *testing.T, serve func(in *bufio.Reader, out *bufio.Writer, m *sync.Map) error) (address string) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var m sync.Map
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer conn.Close()
				in, out := bufio.NewReader(conn), bufio.NewWriter(conn)
				for serve(in, out, &m) == nil {
					if in.Buffered() == 0 {
						_ = out.Flush()
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().String()
}

func redis(in *bufio.Reader, out *bufio.Writer, m *sync.Map) error {
	var n int
	if _, err := fmt.Fscanf(in, "*%d\r\n", &n); err != nil {
		return err
	}
	words := make([]string, n)
	for i := range words {
		var size int
		if _, err := fmt.Fscanf(in, "$%d\r\n", &size); err != nil {
			return err
		}
		word := make([]byte, size+2)
		if _, err := io.ReadFull(in, word); err != nil {
			return err
		}
		words[i] = string(word[:size])
	}
	if words[0] == "SET" {
		m.Store(words[1], words[2])
		_, err := out.WriteString("+OK\r\n")
		return err
	}
	if words[0] == "MGET" {
		fmt.Fprintf(out, "*%d\r\n", n-1)
	}
	for _, key := range words[1:] {
		if v, ok := m.Load(key); ok {
			fmt.Fprintf(out, "$%d\r\n%s\r\n", len(v.(string)), v)
		} else {
			fmt.Fprint(out, "$-1\r\n")
		}
	}
	return nil
}

func memcached(in *bufio.Reader, out *bufio.Writer, m *sync.Map) error {
	line, err := in.ReadString('\n')
	if err != nil {
		return err
	}
	words := strings.Fields(line)
	if words[0] == "set" {
		body, err := in.ReadString('\n')
		m.Store(words[1], strings.TrimSpace(body))
		fmt.Fprint(out, "STORED\r\n")
		return err
	}
	for _, key := range words[1:] {
		if v, ok := m.Load(key); ok {
			fmt.Fprintf(out, "VALUE %s 0 %d\r\n%s\r\n", key, len(v.(string)), v)
		}
	}
	fmt.Fprint(out, "END\r\n")
	return nil
}

func TestCrew_FillsAndAsksOtherStores(t *testing.T) {
	for language, serve := range map[string]func(*bufio.Reader, *bufio.Writer, *sync.Map) error{Redis: redis, Memcached: memcached} {
		address, c := store(t, serve), newCrew(t, 1)
		if err := c.Connect(t.Context(), Connect{Address: address, Language: language, Parallel: 2, PatienceMS: 30_000}, 3, 0, true); err != nil {
			t.Fatal(err)
		}
		ids := make([]string, 40)
		for i := range ids {
			ids[i] = fmt.Sprint("U", i)
		}
		do(t, c, Command{Do: DoFill, Ask: &Ask{IDs: ids, Depth: 16, Bytes: 716}})
		if got := phase(t, c); got.Counts.Objects != 40 || got.Counts.Errors() != 0 {
			t.Fatalf("%s, fill: %+v", language, got)
		}
		for _, batch := range []int{1, 4} {
			do(t, c, Command{Do: DoAsk, Ask: &Ask{IDs: ids, Batch: batch, Depth: 5}})
			for c.SoFar().Queries < 500 {
				do(t, c, Command{Do: DoListen})
			}
			do(t, c, Command{Do: DoRest, PatienceMS: 30_000})
			if got := phase(t, c); got.Counts.Objects != int64(batch)*got.Counts.Queries || got.Counts.Errors() != 0 || got.Counts.Bytes < 716*got.Counts.Objects {
				t.Errorf("%s, batches of %d: %+v", language, batch, got)
			}
		}
		// What is not there is not an answer.
		do(t, c, Command{Do: DoAsk, Ask: &Ask{IDs: []string{"U1", "UNONE"}, Batch: 2}})
		for c.SoFar().Wrong == 0 {
			do(t, c, Command{Do: DoListen})
		}
		do(t, c, Command{Do: DoRest, PatienceMS: 30_000})
		if got := phase(t, c); got.Counts.Queries != 0 {
			t.Errorf("%s: %+v", language, got)
		}
	}
}
