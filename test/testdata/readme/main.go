package main

import (
	"fmt"
	"sync"

	"github.com/rseq-go/rseq/percpu"
)

var hits percpu.Counter

func main() {
	var all sync.WaitGroup
	for range 64 {
		all.Go(func() {
			for range 1_000_000 {
				hits.Inc() // touches this CPU's word alone
			}
		})
	}
	all.Wait()
	fmt.Println(hits.Value()) // 64000000: nothing is lost
}
