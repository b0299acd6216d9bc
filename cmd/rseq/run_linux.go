package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"syscall"

	"github.com/rseq-go/rseq/internal/inspect"
)

// The exit statuses of a shell, env and timeout if the command could not be run.
const (
	exitUntraced = 125
	exitCannot   = 126
	exitNotFound = 127
)

func runCommand(_ io.Writer, o options, operands []string) error {
	if len(operands) == 0 {
		return wrong("run: a command is missing")
	}
	path, err := exec.LookPath(operands[0])
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		return runError(o, exitNotFound, "there is no command "+quote(operands[0]))
	case err != nil && !errors.Is(err, exec.ErrDot):
		return runError(o, exitCannot, err.Error())
	}
	if o.atStart {
		return runAtStart(path, operands, o)
	}
	e, err := inspect.Run(path, operands)
	if err != nil {
		status := exitUntraced
		if pe := (*fs.PathError)(nil); errors.As(err, &pe) { // execve failed
			status = exitCannot
		}
		return runError(o, status, fmt.Sprintf("%s cannot be run under ptrace: %v", quote(operands[0]), err))
	}
	sayRun(o, e.PID, e.Name, "ended", e.Groups, e.Missing)
	return exitOf(syscall.WaitStatus(e.Status))
}

// runError reports an error that occurred before the command ran.
func runError(o options, status int, text string) error {
	if isTerminal(o.stderr) {
		fmt.Fprint(o.stderr, wrap("rseq: ", "run: "+text))
	} else {
		fmt.Fprintf(o.stderr, "rseq: run: %s\n", text)
	}
	return errStatus(status)
}

func runAtStart(path string, args []string, o options) error {
	cmd := exec.Cmd{Path: path, Args: args, Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}
	if err := cmd.Start(); err != nil {
		return runError(o, exitCannot, err.Error())
	}
	defer inspect.PassOn(func() int { return cmd.Process.Pid })()
	r, err := inspect.AtStart(cmd.Process.Pid)
	switch {
	case errors.Is(err, inspect.ErrGone):
		sayRun(o, cmd.Process.Pid, args[0], "started", nil, "it ended before it could be inspected")
	case err != nil:
		sayRun(o, cmd.Process.Pid, args[0], "started", nil, err.Error())
	default:
		sayRun(o, r.PID, r.Name, "started", r.Groups(), r.Missing)
	}
	cmd.Wait() // ProcessState has the result
	return exitOf(cmd.ProcessState.Sys().(syscall.WaitStatus))
}

// sayRun prints what a command registered, on standard error, since the command uses standard
// output.
func sayRun(o options, pid int, name, when string, groups []inspect.Group, missing string) {
	if o.json {
		var why *string
		if missing != "" {
			why = &missing
		}
		if groups == nil {
			groups = []inspect.Group{}
		}
		printJSON(o.stderr, struct {
			header
			PID     int             `json:"pid"`
			Name    string          `json:"name"`
			Groups  []inspect.Group `json:"groups"`
			Missing *string         `json:"missing"`
		}{newHeader(), pid, name, groups, why})
		return
	}
	all := 0
	for _, g := range groups {
		all += g.Threads
	}
	fmt.Fprintf(o.stderr, "rseq: process %d, %s, %s: %s\n", pid, shorten(quote(name), 40), when, plural(all, "thread"))
	if groups != nil {
		fmt.Fprintln(o.stderr)
		printGroups(o.stderr, groups)
		notes(o.stderr, groups)
	}
	if missing != "" {
		fmt.Fprintf(o.stderr, "\n%s", wrap("", "Not all is known: "+missing+"."))
	}
}

func exitOf(status syscall.WaitStatus) error {
	switch {
	case status.Signaled():
		return errStatus(128 + int(status.Signal()))
	case status.ExitStatus() != 0:
		return errStatus(status.ExitStatus())
	}
	return nil
}
