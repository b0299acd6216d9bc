package inspect

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// Ended is what the threads of a command had registered when they ended.
type Ended struct {
	PID     int
	Name    string // any bytes
	Groups  []Group
	Status  unix.WaitStatus
	Missing string // why nothing or not all is known; else empty
}

// Run runs a program and returns what each of its threads had registered when it
// ended. It traces that process, not those that the process starts. A program that
// takes the place of this one (execve) is looked at in its stead.
func Run(path string, args []string) (e *Ended, err error) {
	onThread(func() {
		r := run{}
		defer r.catch()()
		var p *os.Process
		// Ptrace has the child stop when it has become the program.
		p, err = os.StartProcess(path, args, &os.ProcAttr{Files: []*os.File{os.Stdin, os.Stdout, os.Stderr},
			Sys: &unix.SysProcAttr{Ptrace: true}})
		if err != nil {
			return
		}
		defer p.Release()
		r.pid = p.Pid
		r.child.Store(int64(r.pid))
		if e, err = r.run(); err != nil {
			unix.Kill(r.pid, unix.SIGKILL)
			unix.Wait4(r.pid, nil, unix.WALL, nil)
		}
	})
	return e, err
}

// PassOn has this process survive what a terminal sends to it and to its child alike,
// and pass on what is sent to it alone, until undo is called.
func PassOn(child func() int) (undo func()) {
	// Caught and not ignored, which the child would inherit.
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP)
	go func() {
		for s := range signals {
			if pid := child(); pid > 0 && (s == unix.SIGTERM || s == unix.SIGHUP) {
				unix.Kill(pid, s.(unix.Signal))
			}
		}
	}()
	return func() { signal.Stop(signals); close(signals) }
}

// catch is PassOn, also for what stops a terminal's job.
func (r *run) catch() (undo func()) {
	r.stops = make(chan os.Signal, 1)
	signal.Notify(r.stops, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	pass := PassOn(func() int { return int(r.child.Load()) })
	return func() { signal.Stop(r.stops); pass() }
}

// run is a command that is being traced.
type run struct {
	process
	child atomic.Int64   // its id, once it is there
	stops chan os.Signal // that this process was to stop for
	ended Ended
}

func request(what, tid int, data uintptr) unix.Errno {
	_, _, e := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(what), uintptr(tid), 0, data, 0, 0)
	return e
}

func (r *run) run() (*Ended, error) {
	var status unix.WaitStatus
	if err := waitFor(r.pid, 0, &status); err != nil {
		return nil, err
	}
	if !status.Stopped() { // killed meanwhile
		r.ended.PID, r.ended.Status, r.ended.Missing = r.pid, status, "it was killed before it ran"
		return &r.ended, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	defer r.close()
	// A process that asked to be traced cannot be stopped by its terminal as others
	// can; one that was seized can. So it is let go, stopped, and seized.
	if e := request(unix.PTRACE_DETACH, r.pid, uintptr(unix.SIGSTOP)); e != 0 {
		return nil, e
	}
	if err := waitFor(r.pid, unix.WUNTRACED, &status); err != nil {
		return nil, err
	}
	const options = unix.PTRACE_O_TRACEEXIT | unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC
	if e := request(unix.PTRACE_SEIZE, r.pid, options); e != 0 {
		return nil, e
	}
	if err := unix.Kill(r.pid, unix.SIGCONT); err != nil {
		return nil, err
	}
	r.ended.PID = r.pid
	for {
		tid, err := unix.Wait4(-1, &status, unix.WALL|unix.WNOTHREAD, nil)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, fmt.Errorf("wait4: %w", err)
		case status.Stopped():
			r.stopped(tid, status)
		case tid == r.pid:
			r.ended.Status = status
			return &r.ended, nil
		}
	}
}

func waitFor(pid, options int, status *unix.WaitStatus) error {
	for {
		if _, err := unix.Wait4(pid, status, unix.WALL|options, nil); err != unix.EINTR {
			return err
		}
	}
}

// stopped does what a thread stopped for, and lets it run on.
func (r *run) stopped(tid int, status unix.WaitStatus) {
	signal := status.StopSignal()
	switch int(status >> 16) {
	case unix.PTRACE_EVENT_EXIT:
		r.last(tid)
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_CLONE:
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_EXEC: // all other threads are gone, and what they registered
		r.ended.Groups, r.ended.Missing = nil, ""
		r.forget()
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_STOP:
		switch {
		case signal == unix.SIGTRAP: // a new one
			if _, err := r.comm(fmt.Sprintf("task/%d/", tid)); err != nil {
				detach(tid, 0) // that is a process of its own
				return
			}
			request(unix.PTRACE_CONT, tid, 0)
		case tid == r.pid && signal != unix.SIGSTOP:
			request(unix.PTRACE_LISTEN, tid, 0)
			select {
			case <-r.stops: // its terminal stops this process too: both go on together
				unix.Kill(unix.Getpid(), unix.SIGSTOP)
				unix.Kill(r.pid, unix.SIGCONT)
			case <-time.After(100 * time.Millisecond): // somebody stops it alone
			}
		default:
			request(unix.PTRACE_LISTEN, tid, 0)
		}
	default:
		request(unix.PTRACE_CONT, tid, uintptr(signal))
	}
}

// last asks about a thread that is about to end.
func (r *run) last(tid int) {
	t, err := r.held(tid)
	if errors.Is(err, errEnded) {
		return
	}
	if err != nil {
		r.ended.Missing = err.Error()
		return
	}
	if tid == r.pid {
		r.ended.Name = t.Name
	}
	r.ended.Groups = add(r.ended.Groups, t.Registration)
}

// AtStart looks at a process that has just begun until it has registered something, or
// for a second, and returns the last that it saw.
func AtStart(pid int) (r *Report, err error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := Process(context.Background(), pid, nil)
		if err != nil && r != nil {
			return r, nil // it has ended since
		}
		if err != nil || now.Registered() || time.Since(began) > time.Second {
			return now, err
		}
		r = now
		time.Sleep(pause)
	}
}
