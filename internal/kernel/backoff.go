package kernel

import (
	"math"
	"sync/atomic"
	"time"
)

// A Backoff spaces out attempts: 50 ms after the first failure, twice as long after each
// further one, a minute at most. A lock of its user guards it, but for Due.
type Backoff struct {
	Until atomic.Int64 // nanoseconds since loaded
	Wait  time.Duration
}

var loaded = time.Now() // has a monotonic reading

// Due reports whether it is time for an attempt.
func (b *Backoff) Due() bool { return int64(time.Since(loaded)) >= b.Until.Load() }

// Hold keeps others from an attempt until Later is called or this one succeeded.
func (b *Backoff) Hold() { b.Until.Store(math.MaxInt64) }

// Later says that an attempt failed.
func (b *Backoff) Later() {
	b.Wait = min(max(2*b.Wait, 50*time.Millisecond), time.Minute)
	b.Until.Store(int64(time.Since(loaded) + b.Wait))
}
