//go:build linux

package kernel

import (
	"errors"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestQuestion: an answer is kept. If there is none, because no child process could be made,
// the question is repeated, but not at once.
func TestQuestion(t *testing.T) {
	was, wasFiltered := inChild, filtered
	defer func() { inChild, filtered = was, wasFiltered }()
	asked, may := 0, true
	var status unix.WaitStatus
	var fails error
	inChild = func([]Call) (unix.WaitStatus, error) { asked++; return status, fails }
	filtered = func() bool { return may }
	q := &question{}
	want := func(n int, answer error) {
		t.Helper()
		if got := q.ask(); !errors.Is(got, answer) {
			t.Errorf("%v, want %v", got, answer)
		}
		if asked != n {
			t.Errorf("asked %d times, want %d", asked, n)
		}
	}
	fails = unix.EAGAIN
	want(1, errNoChild)
	want(1, unix.EAGAIN)
	wait := q.retry.Wait
	q.retry.Until.Store(0)
	want(2, errNoChild)
	if q.retry.Wait <= wait || q.retry.Due() {
		t.Errorf("asks again after %v, then after %v, at %v", wait, q.retry.Wait, time.Duration(q.retry.Until.Load()))
	}
	may = false // a thread without a filter asks
	want(2, nil)
	may = true
	q.retry.Until.Store(0)
	fails = nil
	want(3, nil)
	want(3, nil)
	*q = question{}
	status = unix.WaitStatus(unix.SIGSYS)
	want(4, ErrKills)
	q.retry.Until.Store(0)
	want(4, ErrKills)
}

// TestListThreads: no thread is left out of the list while others end.
func TestListThreads(t *testing.T) {
	var wg sync.WaitGroup
	id := make(chan string)
	start := func(until chan bool) string {
		wg.Go(func() {
			runtime.LockOSThread()
			id <- strconv.Itoa(unix.Gettid())
			<-until
		})
		return <-id
	}
	missing := func(list, ids []string) (missing []string) {
		for _, id := range ids {
			if !slices.Contains(list, id) {
				missing = append(missing, id)
			}
		}
		return missing
	}
	stay := make(chan bool)
	left, rounds, most := 0, 0, 30
	if testing.Short() {
		most = 3
	}
	for ; rounds < most && left < 3; rounds++ {
		// Every other thread ends while /proc is read, which takes several calls.
		var ids []string
		end := make(chan bool)
		rest := make(chan bool)
		for range 400 {
			start(end)
			ids = append(ids, start(rest))
		}
		close(end)
		for range 20 {
			list, complete, err := readTasks()
			if err != nil {
				t.Fatal(err)
			}
			if lost := missing(list, ids); len(lost) > 0 {
				left++
				if complete {
					t.Errorf("threads %v are missing from a list that is called complete", lost)
				}
			}
		}
		close(rest)
	}
	t.Logf("/proc left threads out %d times of %d", left, 20*rounds)
	var ids []string
	for range 10 {
		ids = append(ids, start(stay))
	}
	for what, list := range map[string]func() ([]string, error){"listThreads": listThreads, "tryAll": tryAll} {
		list, err := list()
		if lost := missing(list, ids); err != nil || len(lost) > 0 {
			t.Errorf("%s: %v; threads %v are missing", what, err, lost)
		}
	}
	close(stay)
	wg.Wait()
}
