package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"flannel/bench/load"
)

// newBenchWorker is the generator process of the load scenarios, which bench starts itself.
func newBenchWorker(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "worker",
		Short:   "A generator process of flannel bench: commands on standard input, counts on standard output",
		Example: `  echo '{"do":"mark"}' | flannel bench worker`,
		Hidden:  true,
		Args:    noArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return load.Serve(cmd.InOrStdin(), a.stdout) },
	}
}

// startWorkers starts n generators, processes of their own.
func startWorkers(n int) (*load.Crew, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return load.Start(n, func(int) (*load.Pipe, error) {
		cmd := exec.Command(self, "bench", "worker")
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return nil, err
		}
		if err := cmd.Start(); err != nil {
			return nil, err
		}
		return &load.Pipe{In: in, Out: out, Wait: cmd.Wait, PID: cmd.Process.Pid}, nil
	})
}

// child is a server in a process of its own, so that its processor time and memory are its own too.
type child struct {
	cmd  *exec.Cmd
	logs sync.WaitGroup

	mu   sync.Mutex
	said []string // its last lines, to show if it ends
}

// startWithin bounds how long a server may take until it listens.
const startWithin = 20 * time.Second

// startSelf starts this program with other arguments as a server, and waits for the log line that has the field, of which
// it returns all fields.
func startSelf(ctx context.Context, stderr io.Writer, field string, environ, args []string) (*child, map[string]any, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, nil, err
	}
	c := &child{cmd: exec.Command(self, args...)}
	c.cmd.Env = append(os.Environ(), environ...)
	pipe, err := c.cmd.StderrPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, nil, fmt.Errorf("start the server: %w", err)
	}
	ready := make(chan map[string]any, 1)
	c.logs.Go(func() { c.listen(pipe, stderr, field, ready) })
	timeout := time.NewTimer(startWithin)
	defer timeout.Stop()
	select {
	case line, ok := <-ready:
		if ok {
			return c, line, nil
		}
		err = fmt.Errorf("the server has ended: %s", c.last())
	case <-timeout.C:
		err = fmt.Errorf("the server did not listen within %v: %s", startWithin, c.last())
	case <-ctx.Done():
		err = ctx.Err()
	}
	c.stop()
	return nil, nil, err
}

// listen reads the server's log: warnings are shown.
func (c *child) listen(r io.Reader, stderr io.Writer, field string, ready chan<- map[string]any) {
	defer close(ready)
	told := false
	for in := bufio.NewScanner(r); in.Scan(); {
		var line map[string]any
		if err := json.Unmarshal(in.Bytes(), &line); err != nil {
			line = map[string]any{"level": "WARN"} // Not of the log: a panic, say.
		}
		c.mu.Lock()
		c.said = append(c.said, in.Text())
		c.said = c.said[max(len(c.said)-20, 0):]
		c.mu.Unlock()
		if line["level"] == "WARN" || line["level"] == "ERROR" {
			fmt.Fprintf(stderr, "server: %s\n", in.Text())
		}
		if _, ok := line[field]; ok && !told {
			told = true
			ready <- line
		}
	}
}

func (c *child) last() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.said, "\n")
}

// stop ends the server at once: nothing in it is worth a drain.
func (c *child) stop() {
	c.cmd.Process.Kill() //nolint:errcheck // It has ended.
	c.logs.Wait()
	c.cmd.Wait() //nolint:errcheck // It was killed.
}
