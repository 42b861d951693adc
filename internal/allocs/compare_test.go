package main

import (
	"io"
	"slices"
	"testing"
)

func TestCompare(t *testing.T) {
	before, err := parse("# a comment\np.Same 100 B/op 10 allocs/op\np.Less 100 B/op 10 allocs/op\np.Bytes 1000 B/op 1 allocs/op\np.Allocs 10 B/op 5 allocs/op\np.None 0 B/op 0 allocs/op\np.Gone 1 B/op 1 allocs/op\n")
	if err != nil || len(before) != 6 {
		t.Fatal(before, err)
	}
	now := []figures{{"p.Same", 120, 12}, {"p.Less", 1, 1}, {"p.Bytes", 1265, 1}, {"p.Allocs", 12, 7}, {"p.None", 16, 1}, {"p.New", 0, 0}}
	if got, want := compare(io.Discard, before, now), []string{"p.Bytes", "p.Allocs", "p.None", "p.New", "p.Gone"}; !slices.Equal(got, want) {
		t.Errorf("worse are %q, want %q", got, want)
	}
	if got := compare(io.Discard, before, before); got != nil {
		t.Errorf("worse than itself are %q", got)
	}
	again, err := parse(format(now))
	if err != nil || !slices.Equal(again, now) {
		t.Errorf("written and read: %v, %v", again, err)
	}
}

func TestParse_GoTest(t *testing.T) {
	const out = "goos: linux\nBenchmarkBoot/full         \t   2000\t     98237 ns/op\t     46037 bytes/boot\t   57344 B/op\t       1 allocs/op\nPASS\nok  \tflannel/query\t1.0s\n"
	got, err := parse(out)
	if want := []figures{{"Boot/full", 57344, 1}}; err != nil || !slices.Equal(got, want) {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parse("BenchmarkX x B/op 1 allocs/op\n"); err == nil {
		t.Error("x is a number")
	}
}
