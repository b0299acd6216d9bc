package main

import (
	"bytes"
	"compress/gzip"
	"io"
	"runtime"
	"testing"
)

// Every record comes back whole, and few compressors are made: as many as there are users, and
// some by a Get that found none while others waited on another CPU's list.
func TestCompressAll(t *testing.T) {
	const records, goroutines = 500, 8
	p := newPool(goroutines)
	for round := 1; round <= 3; round++ {
		for i, compressed := range compressAll(p.compress, records, goroutines) {
			r, err := gzip.NewReader(bytes.NewReader(compressed))
			if err != nil {
				t.Fatalf("round %d, record %d: %v", round, i, err)
			}
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, record(i)) {
				t.Fatalf("round %d, record %d is not what was compressed: %v", round, i, err)
			}
		}
		if made, uses := p.made.Load(), p.uses.Value(); made < 1 || made > int64(4*p.size) || uses != int64(round*records) {
			t.Errorf("after round %d: %d made, %d uses: expected 1 to %d made, %d uses", round, made, uses, 4*p.size, round*records)
		}
		runtime.GC()
	}
}

// What was put back is there after collections that would empty a sync.Pool.
func TestKept(t *testing.T) {
	const goroutines = 8
	p := newPool(goroutines)
	warm := map[*compressor]*gzip.Writer{}
	for range goroutines {
		c := p.Get()
		warm[c] = c.zip
	}
	for c := range warm {
		p.Put(c)
	}
	for range 3 {
		runtime.GC()
	}
	// Those on another CPU's list come when the pool has nothing else.
	for range 4 * p.size {
		c := p.Get()
		if zip, ok := warm[c]; ok && c.zip != zip {
			t.Error("a compressor came back without what was in it")
		}
		if delete(warm, c); len(warm) == 0 {
			return
		}
	}
	t.Errorf("%d of %d did not come back", len(warm), goroutines)
}

// A compressor that grew to more than a record needs is not kept.
func TestGrown(t *testing.T) {
	p := newPool(1)
	c := p.Get()
	c.out.Grow(2 << 20)
	p.Put(c)
	if again := p.Get(); again == c {
		t.Error("it was kept")
	}
}
