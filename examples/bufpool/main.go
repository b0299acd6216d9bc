// Program bufpool compresses records on many goroutines, with buffers and compressors
// from a pool that the garbage collector does not empty.
package main

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"log"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/rseq-go/rseq/percpu"
)

// compressor is what a record needs to be compressed: more than 800 KB, dear to make.
type compressor struct {
	out bytes.Buffer
	zip *gzip.Writer
}

func (c *compressor) init() { c.zip = gzip.NewWriter(&c.out) }

// compress returns a compressed copy of data.
func (c *compressor) compress(data []byte) []byte {
	c.out.Reset()
	c.zip.Reset(&c.out)
	c.zip.Write(data) // to memory: no error
	c.zip.Close()
	return bytes.Clone(c.out.Bytes())
}

// pool is a pool of compressors that counts.
type pool struct {
	*percpu.Pool[compressor]
	size int             // how many may wait in it
	made atomic.Int64    // how many were made
	uses *percpu.Counter // how often one was used
}

// newPool returns a pool for so many goroutines. Its size is the number of users at the busiest
// moment, as many as may have to wait in it when none is busy.
func newPool(goroutines int) *pool {
	p := &pool{size: goroutines, uses: percpu.NewCounter()}
	p.Pool = percpu.NewPool(p.size, func(c *compressor) {
		p.made.Add(1)
		c.init()
	})
	// One huge record must not cost its memory from then on.
	p.Keep = func(c *compressor) bool { return c.out.Cap() <= 1<<20 }
	return p
}

func (p *pool) compress(data []byte) []byte {
	c := p.Get()
	defer p.Put(c)
	p.uses.Add(1)
	return c.compress(data)
}

// record returns record i of the job, some kilobytes of text.
func record(i int) []byte {
	var b bytes.Buffer
	for line := range 50 {
		fmt.Fprintf(&b, `{"record":%d,"line":%d,"value":%d}`+"\n", i, line, i*line*7919)
	}
	return b.Bytes()
}

// compressAll returns the compressed records, by number.
func compressAll(compress func([]byte) []byte, records, goroutines int) [][]byte {
	results := make([][]byte, records)
	var next atomic.Int64
	var all sync.WaitGroup
	for range goroutines {
		all.Go(func() {
			for i := int(next.Add(1)) - 1; i < records; i = int(next.Add(1)) - 1 {
				results[i] = compress(record(i))
			}
		})
	}
	all.Wait()
	return results
}

func main() {
	log.SetFlags(0)
	records := flag.Int("records", 2000, "how many records to compress in each round")
	goroutines := flag.Int("goroutines", 8, "how many goroutines do that")
	rounds := flag.Int("rounds", 8, "how many rounds, each followed by garbage collections")
	flag.Parse()
	if *records < 1 || *goroutines < 1 || *rounds < 1 || flag.NArg() > 0 {
		log.Fatal("bufpool: expected at least 1 record, goroutine and round, and no arguments")
	}

	p := newPool(*goroutines)
	// The same with a sync.Pool, whose values go when two collections find them free.
	var syncMade atomic.Int64
	syncPool := sync.Pool{New: func() any {
		syncMade.Add(1)
		c := new(compressor)
		c.init()
		return c
	}}
	withSyncPool := func(data []byte) []byte {
		c := syncPool.Get().(*compressor)
		defer syncPool.Put(c)
		return c.compress(data)
	}

	fmt.Printf("A pool of %d compressors for %d goroutines\n\n", p.size, *goroutines)
	fmt.Printf("%-24s%8s%12s%18s\n", "", "uses", "were made", "in a sync.Pool")
	for round := 1; round <= *rounds; round++ {
		compressAll(p.compress, *records, *goroutines)
		compressAll(withSyncPool, *records, *goroutines)
		fmt.Printf("%-24s%8d%12d%18d\n", fmt.Sprintf("round %d, runtime.GC()", round), p.uses.Value(), p.made.Load(), syncMade.Load())
		runtime.GC()
		runtime.GC()
	}
}
