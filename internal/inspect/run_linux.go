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

// Ended has the registrations that the threads of a command had when they ended.
type Ended struct {
	PID     int
	Name    string // any bytes
	Groups  []Group
	Status  unix.WaitStatus
	Missing string // why threads may be missing; else empty
}

// Run runs a program and returns the registration that each of its threads had when the
// thread ended. It traces that process, and not those that the process starts. If the
// process executes another program (execve), Run returns the registrations of that one.
func Run(path string, args []string) (e *Ended, err error) {
	onThread(func() {
		r := run{}
		defer r.catch()()
		var p *os.Process
		// With Ptrace the child stops once it executes the program.
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

// PassOn catches signals until undo is called. SIGINT and SIGQUIT, which a terminal sends to
// the child as well, do nothing to this process. SIGTERM and SIGHUP are passed on to the
// child.
func PassOn(child func() int) (undo func()) {
	// The signals are caught, not ignored: the child would inherit that.
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

// catch does what PassOn does, also for the signals that stop a job.
func (r *run) catch() (undo func()) {
	r.stops = make(chan os.Signal, 1)
	signal.Notify(r.stops, unix.SIGTSTP, unix.SIGTTIN, unix.SIGTTOU)
	pass := PassOn(func() int { return int(r.child.Load()) })
	return func() { signal.Stop(r.stops); pass() }
}

// run is a command that is being traced.
type run struct {
	process
	child atomic.Int64   // its id, zero before it is started
	stops chan os.Signal // signals that asked this process to stop
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
	if !status.Stopped() { // it was killed meanwhile
		r.ended.PID, r.ended.Status, r.ended.Missing = r.pid, status, "it was killed before it ran"
		return &r.ended, nil
	}
	if err := r.open(); err != nil {
		return nil, err
	}
	defer r.close()
	// A terminal cannot stop a process that asked to be traced, but it can stop one that was
	// seized. So Run detaches from the process while it is stopped, and seizes it.
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

// stopped handles the stop of a thread, and lets it run on.
func (r *run) stopped(tid int, status unix.WaitStatus) {
	signal := status.StopSignal()
	switch int(status >> 16) {
	case unix.PTRACE_EVENT_EXIT:
		r.last(tid)
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_CLONE:
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_EXEC: // all other threads and the registrations are gone
		r.ended.Groups, r.ended.Missing = nil, ""
		r.forget()
		request(unix.PTRACE_CONT, tid, 0)
	case unix.PTRACE_EVENT_STOP:
		switch {
		case signal == unix.SIGTRAP: // a new thread
			if _, err := r.comm(fmt.Sprintf("task/%d/", tid)); err != nil {
				detach(tid, 0) // it is a new process, and no thread
				return
			}
			request(unix.PTRACE_CONT, tid, 0)
		case tid == r.pid && signal != unix.SIGSTOP:
			request(unix.PTRACE_LISTEN, tid, 0)
			select {
			case <-r.stops: // the terminal stops this process too: both go on together
				unix.Kill(unix.Getpid(), unix.SIGSTOP)
				unix.Kill(r.pid, unix.SIGCONT)
			case <-time.After(100 * time.Millisecond): // the signal is for the child alone
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

// AtStart inspects a process that has just been started until a thread has a registration,
// for a second at most, and returns the last report.
func AtStart(pid int) (r *Report, err error) {
	began := time.Now()
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		now, err := Process(context.Background(), pid, nil)
		if err != nil && r != nil {
			return r, nil // the process has ended since
		}
		if err != nil || now.Registered() || time.Since(began) > time.Second {
			return now, err
		}
		r = now
		time.Sleep(pause)
	}
}
