package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// Serve is a worker's life: it does what it is told on in, tells on out what it counted, and returns when in ends.
func Serve(in io.Reader, out io.Writer) (err error) {
	lines := bufio.NewWriter(out)
	enc := json.NewEncoder(lines)
	l, err := newLoop(func(r *Report) error {
		if err := enc.Encode(r); err != nil {
			return err
		}
		return lines.Flush()
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.close()) }()
	commands := make(chan Command, 16) // The next ones may be told before one is done. Closed by the reader.
	ended := make(chan error, 1)       // why the reader ended; never closed
	go func() {
		defer l.nudge() // After the close, which the loop has to see.
		defer close(commands)
		dec := json.NewDecoder(bufio.NewReaderSize(in, 1<<16))
		for {
			var c Command
			if err := dec.Decode(&c); err != nil {
				if errors.Is(err, io.EOF) {
					err = nil
				}
				ended <- err
				return
			}
			commands <- c
			l.nudge()
		}
	}()
	if err := l.run(commands); err != nil {
		// The reader ends when whoever tells us hears that we are gone.
		return err
	}
	if err := <-ended; err != nil {
		return fmt.Errorf("read a command: %w", err)
	}
	return nil
}
