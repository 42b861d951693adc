//go:build linux

package proc

import (
	"os"
	"testing"
)

func TestProcess_ThisOne(t *testing.T) {
	p := Process{os.Getpid()}
	before, err := p.CPU()
	if err != nil {
		t.Fatal(err)
	}
	var cpu = before
	for n := 0; cpu == before; n++ { // Until a tick has passed.
		if cpu, err = p.CPU(); err != nil {
			t.Fatal(err)
		}
	}
	if cpu < before {
		t.Errorf("processor time fell from %v to %v", before, cpu)
	}
	m, err := p.Memory()
	if err != nil || m.Resident < 1<<20 || m.Peak < m.Resident {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestProcess_None(t *testing.T) {
	p := Process{1 << 30}
	if _, err := p.CPU(); err == nil {
		t.Error("nobody has processor time")
	}
	if _, err := p.Memory(); err == nil {
		t.Error("nobody has memory")
	}
}
