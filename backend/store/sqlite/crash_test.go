package sqlite

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"testing"

	"flannel/backend/store/storetest"
)

// stormEnv makes the test binary the child of TestCrash; its value is the folder.
const stormEnv = "FLANNEL_STORE_STORM"

// acknowledgedBeforeKill is how much the child says before it is killed: enough for several checkpoints of the log.
const acknowledgedBeforeKill = 4000

// TestCrash kills a process in the middle of a storm of writes, several times on the same kind of store, and checks that
// nothing that it had acknowledged is lost.
func TestCrash(t *testing.T) {
	if dir := os.Getenv(stormEnv); dir != "" {
		fmt.Fprintln(os.Stderr, storetest.Storm(openAt(t, dir), os.Stdout))
		os.Exit(1) // A storm ends by being killed only.
	}
	for round := range 5 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			dir := t.TempDir()
			child := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCrash$")
			child.Env = append(os.Environ(), stormEnv+"="+dir)
			var complaints bytes.Buffer
			child.Stderr = &complaints
			out, err := child.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := child.Start(); err != nil {
				t.Fatal(err)
			}

			// Read some, kill, and read what was said until then.
			var said bytes.Buffer
			_, readErr := io.CopyN(&said, out, int64(acknowledgedBeforeKill+round*500)*20)
			if err := child.Process.Kill(); err != nil { // SIGKILL
				t.Fatal(err)
			}
			if _, err := io.Copy(&said, out); err != nil {
				t.Fatal(err)
			}
			_ = child.Wait() // It says that it was killed.
			if readErr != nil {
				t.Fatalf("child: %v: %s", readErr, complaints.String())
			}

			st := openAt(t, dir)
			defer st.Close()
			n, err := storetest.CheckStorm(st, &said)
			if err != nil || n < acknowledgedBeforeKill/2 {
				t.Errorf("%d acknowledged: %v", n, err)
			}
			t.Logf("%d acknowledged, none lost", n)
		})
	}
}
