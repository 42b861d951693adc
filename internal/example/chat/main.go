// Command chat is a chat client of fifty lines on an unmodified github.com/slack-go/slack: what is typed is said in a
// channel, what others say is printed. The README shows it talking through an edge with e2e/chat.mjs, which is the same
// on an unmodified @slack/rtm-api.
package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"

	"github.com/slack-go/slack"
)

func main() {
	url := flag.String("url", "http://127.0.0.1:8080", "base URL of an edge, or of a backend")
	token := flag.String("token", os.Getenv("TOKEN"), "token (default: $TOKEN)")
	name := flag.String("channel", "general", "name of the channel")
	flag.Parse()
	if err := chat(*url, *token, *name); err != nil {
		fmt.Fprintln(os.Stderr, "chat:", err)
		os.Exit(1)
	}
}

func chat(url, token, name string) error {
	api := slack.New(token, slack.OptionAPIURL(url+"/api/"))
	channel, err := find(api, name)
	if err != nil {
		return err
	}
	rtm := api.NewRTM()
	go rtm.ManageConnection() // until Disconnect
	defer rtm.Disconnect()    //nolint:errcheck // The program ends.
	lines := make(chan string)
	go func() { // until standard input ends
		for in := bufio.NewScanner(os.Stdin); in.Scan(); {
			lines <- in.Text()
		}
		close(lines)
	}()
	for {
		select {
		case event := <-rtm.IncomingEvents:
			switch e := event.Data.(type) {
			case *slack.HelloEvent:
				fmt.Println("connected, in", name)
			case *slack.MessageEvent:
				if e.Channel == channel {
					fmt.Printf("%s: %s\n", e.User, e.Text)
				}
			case *slack.InvalidAuthEvent:
				return fmt.Errorf("the token is not valid")
			}
		case line, ok := <-lines:
			if !ok {
				return nil
			}
			rtm.SendMessage(rtm.NewOutgoingMessage(line, channel))
		}
	}
}

// find returns the id of a channel.
func find(api *slack.Client, name string) (string, error) {
	channels, err := api.GetAllConversations(slack.GetConversationsOptionLimit(500))
	if err != nil {
		return "", fmt.Errorf("list channels: %w", err)
	}
	for _, c := range channels {
		if c.Name == name {
			return c.ID, nil
		}
	}
	return "", fmt.Errorf("there is no channel %q", name)
}
