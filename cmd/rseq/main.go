// Command rseq says whether restartable sequences are on in this environment, who owns the
// areas of any process, and whether critical sections work. See `rseq help`.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"

	"github.com/rseq-go/rseq/internal/kernel"
)

const (
	exitOK = iota
	exitNo
	exitUsage
	exitFailed
)

// errUsage is an error in the command line.
type errUsage struct{ text string }

func (e errUsage) Error() string { return e.text }

func wrong(format string, args ...any) error { return errUsage{fmt.Sprintf(format, args...)} }

// errNo ends the command with status 1. Its text, unless empty, goes to standard error.
type errNo struct{ text string }

func (e errNo) Error() string { return e.text }

// errStatus ends the command with the status of another.
type errStatus int

func (e errStatus) Error() string { return fmt.Sprintf("status %d", int(e)) }

func main() {
	if len(os.Args) == 2 && os.Args[1] == sliceQuestion {
		kernel.SliceYield()
		return
	}
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

// sliceQuestion is the argument with which this program only calls rseq_slice_yield(2). doctor
// runs it in a child process, since a filter may kill for that call.
const sliceQuestion = "-ask-slice-yield"

// run runs the command that args name. It writes all output at the end, so that it notices a
// write that fails.
func run(args []string, stdout, stderr io.Writer) int {
	var out bytes.Buffer
	c, args, err := find(args)
	if err == nil {
		err = c.call(args, &out, stderr)
	}
	if _, e := stdout.Write(out.Bytes()); e != nil {
		err = fmt.Errorf("cannot write the answer: %w", e)
	}
	say := func(err error) {
		text := err.Error()
		if isTerminal(stderr) {
			fmt.Fprint(stderr, wrap("rseq: ", text))
		} else {
			fmt.Fprintf(stderr, "rseq: %s\n", text)
		}
	}
	var no errNo
	var usage errUsage
	var status errStatus
	switch {
	case err == nil:
		return exitOK
	case errors.As(err, &status):
		return int(status)
	case errors.As(err, &usage):
		say(fmt.Errorf("%w; see `rseq help%s`", err, strings.TrimSuffix(" "+c.name, " ")))
		return exitUsage
	case errors.As(err, &no):
		if no.text != "" {
			say(err)
		}
		return exitNo
	}
	say(err)
	return exitFailed
}

// find returns the command that args name, and the command's arguments.
func find(args []string) (command, []string, error) {
	if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
		args = append([]string{"help"}, args[1:]...)
	} else if len(args) > 0 && slices.Contains([]string{"-version", "--version"}, args[0]) {
		args = append([]string{"version"}, args[1:]...)
	} else if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		args = append([]string{"show"}, args...)
	}
	c, found := named(args[0])
	if !found {
		return command{}, nil, wrong("there is no command %q", args[0])
	}
	return c, args[1:], nil
}

// options are the flags of a command.
type options struct {
	json, verbose, threads, all, stress, atStart bool
	stderr                                       io.Writer
}

// call parses the flags and operands of the command and runs it.
func (c command) call(args []string, out, stderr io.Writer) error {
	o := options{stderr: stderr}
	flags := flag.NewFlagSet(c.name, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	for _, f := range c.flags {
		flags.BoolVar(f.value(&o), f.name, false, "")
	}
	var operands []string
	for {
		err := flags.Parse(args)
		if errors.Is(err, flag.ErrHelp) {
			return help(out, []string{c.name})
		}
		if err != nil {
			return wrong("%s: %v", c.name, err)
		}
		if flags.NArg() == 0 {
			break
		}
		// Arguments after "--", or after the command to run, are no flags.
		if c.name == "run" || len(args) > flags.NArg() && args[len(args)-flags.NArg()-1] == "--" {
			operands = append(operands, flags.Args()...)
			break
		}
		operands = append(operands, flags.Arg(0))
		args = flags.Args()[1:]
	}
	if c.most >= 0 && len(operands) > c.most {
		return wrong("%s: extra argument %q", c.name, operands[c.most])
	}
	return c.do(out, o, operands)
}

// schema is the version of the printed JSON. It is increased when a key is removed or changes its
// meaning, and not when a key is added.
const schema = 1

// header begins each JSON object.
type header struct {
	Schema int     `json:"schema"`
	Kernel *string `json:"kernel"` // null if not known
	Go     string  `json:"go"`     // the version that built this command
	Arch   string  `json:"arch"`
}

func newHeader() header {
	h := header{Schema: schema, Go: runtime.Version(), Arch: runtime.GOARCH}
	if release := kernel.Release(); release != "" {
		h.Kernel = &release
	}
	return h
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}

// system describes the machine and the build in one line.
func system() string {
	s := fmt.Sprintf("%s %s/%s", runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if release := kernel.Release(); release != "" {
		s += ", Linux " + release
	}
	return s
}
