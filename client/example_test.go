package client_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"time"

	"flannel/client"
	"flannel/protocol"
)

// startEdge stands for an edge in the examples.
func startEdge() *edge {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	return newEdge(l)
}

// Connect, and print messages.
func Example() {
	edge := startEdge()
	defer edge.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	c, err := client.Dial(ctx, client.Options{URL: edge.url, Token: "xoxp-ana"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	fmt.Printf("%s is in #%s\n", c.Boot().Self.RealName, c.Boot().Channels[0].Name)

	edge.message("lunch?")
	edge.message("in five minutes")
	for ev := range c.Events(ctx) {
		if m, ok := ev.Data.(*client.Message); ok {
			fmt.Printf("%s: %s\n", m.User, m.Text)
			if m.Text == "in five minutes" {
				break
			}
		}
	}
	// Output:
	// Ana is in #general
	// U2: lunch?
	// U2: in five minutes
}

// Users are asked for when they are shown: many at once, each once, and nobody again who has not changed.
func ExampleClient_User() {
	edge := startEdge()
	defer edge.close()
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{URL: edge.url, Token: "xoxp-ana"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	people, err := c.Users(ctx, "U2", "U3", "U404")
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(people["U2"].RealName, people["U3"].RealName, people["U404"] == nil)
	for range 1000 {
		c.User(ctx, "U2")
	}
	_, err = c.User(ctx, "U404")
	fmt.Println(err)
	// Output:
	// Bo Cy true
	// user U404: not found
}

// Send returns when the message is on the server's disk.
func ExampleClient_Send() {
	edge := startEdge()
	defer edge.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := client.Dial(ctx, client.Options{URL: edge.url, Token: "xoxp-ana"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	c.Typing("C1")
	ts, err := c.Send(ctx, client.Outgoing{Channel: "C1", Text: "hello"})
	fmt.Println(ts, err)
	reply, err := c.Send(ctx, client.Outgoing{Channel: "C1", Text: "and again", ThreadTS: ts})
	fmt.Println(reply, err)
	// Output:
	// 1700000000.000000 <nil>
	// 1700000001.000000 <nil>
}

// A client that is started again goes on where it was: it hears what it has missed, once, and asks only for objects that
// have changed.
func ExampleClient_Save() {
	edge := startEdge()
	defer edge.close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	options := client.Options{URL: edge.url, Token: "xoxp-ana"}
	c, err := client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	edge.message("before")
	ev, err := c.Next(ctx)
	fmt.Println(ev.Data.(*client.Message).Text, err)
	var file bytes.Buffer // In an application, a file.
	if err := c.Save(&file); err != nil {
		fmt.Println(err)
		return
	}
	c.Close()
	edge.message("meanwhile")

	options.Saved = &file
	c, err = client.Dial(ctx, options)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ev, err = c.Next(ctx)
	fmt.Println(ev.Data.(*client.Message).Text, err)
	// Output:
	// before <nil>
	// meanwhile <nil>
}

// What the server refuses has a name.
func ExampleClient_Call() {
	edge := startEdge()
	defer edge.close()
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{URL: edge.url, Token: "xoxp-ana"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()

	err = c.Call(ctx, "conversations.teleport", protocol.Args{"channel": "C1"}, nil)
	fmt.Println(err)
	// Output:
	// call conversations.teleport: unknown_method
}

// A user interface shows what is going on.
func ExampleClient_States() {
	edge := startEdge()
	defer edge.close()
	ctx := context.Background()
	c, err := client.Dial(ctx, client.Options{URL: edge.url, Token: "xoxp-ana"})
	if err != nil {
		fmt.Println(err)
		return
	}
	edge.closeAll(protocol.CloseInactive, protocol.CloseReason{Reason: "account_inactive"})

	for s := range c.States(ctx) {
		if s.Phase == client.Closed {
			fmt.Println(s.Phase, "because", s.Reason)
		}
	}
	c.Close()
	// Output:
	// closed because server closed the connection: 4500 account_inactive
}
