// Command rseq shows the restartable-sequences area of this process or of any
// other, and checks this machine:
//
//	rseq [show] [--json]         the rseq area of this process
//	rseq inspect [--json] PID    what the kernel holds for each thread of PID
//	rseq doctor [--json]         every check of this machine, and what to do
//
// Its exit status is 0 if the answer is yes, 1 if it is no, 2 for wrong usage, 3 if
// the command itself failed.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
)

const usage = `usage: rseq [show] [--json]         the rseq area of this process
       rseq inspect [--json] PID    what the kernel holds for each thread of PID
       rseq doctor [--json]         every check of this machine, and what to do

inspect stops one thread after the other for a moment (ptrace); a system call
that signals do not restart may then return EINTR in that process.

exit status: 0 yes: there is an area, each thread was asked, all is well
             1 no: there is none, PID cannot be inspected, a check failed
             2 wrong usage
             3 the command itself failed
`

const (
	exitOK = iota
	exitNo
	exitUsage
	exitFailed
)

// errUsage is wrapped by what is wrong with the command line.
var errUsage = errors.New("wrong usage")

// errNo is wrapped by an answer that is no; its text goes to standard error
// unless it is empty.
type errNo struct{ text string }

func (e errNo) Error() string { return e.text }

func main() { os.Exit(run(os.Args[1:], os.Stdout, os.Stderr)) }

// run does what args say. Output is written at once at the end, so that a
// write that fails is noticed.
func run(args []string, stdout, stderr io.Writer) int {
	var out bytes.Buffer
	err := dispatch(args, &out)
	if _, e := stdout.Write(out.Bytes()); e != nil {
		err = fmt.Errorf("cannot write the answer: %w", e)
	}
	var no errNo
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case errors.Is(err, errUsage):
		fmt.Fprintf(stderr, "rseq: %v\n%s", err, usage)
		return exitUsage
	case errors.As(err, &no):
		if no.text != "" {
			fmt.Fprintf(stderr, "rseq: %s\n", no.text)
		}
		return exitNo
	}
	fmt.Fprintf(stderr, "rseq: %v\n", err)
	return exitFailed
}

func dispatch(args []string, out io.Writer) error {
	command := "show"
	if len(args) > 0 && args[0] != "" && args[0][0] != '-' {
		command, args = args[0], args[1:]
	}
	flags := flag.NewFlagSet(command, flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	asJSON := flags.Bool("json", false, "")
	operands, err := parse(flags, args)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errUsage, err)
	}
	want := map[string]int{"show": 0, "inspect": 1, "doctor": 0, "help": 0}
	n, known := want[command]
	switch {
	case !known:
		return fmt.Errorf("%w: there is no command %q", errUsage, command)
	case len(operands) > n:
		return fmt.Errorf("%w: %s: extra argument %q", errUsage, command, operands[n])
	case len(operands) < n:
		return fmt.Errorf("%w: inspect: which PID?", errUsage)
	}
	switch command {
	case "show":
		return show(out, *asJSON)
	case "inspect":
		return inspectPID(out, operands[0], *asJSON)
	case "doctor":
		return doctor(out, *asJSON)
	}
	return flag.ErrHelp
}

// parse accepts flags before and after operands.
func parse(flags *flag.FlagSet, args []string) (operands []string, err error) {
	for {
		if err := flags.Parse(args); err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			return operands, nil
		}
		operands = append(operands, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

func printJSON(out io.Writer, v any) error {
	enc := json.NewEncoder(out)
	enc.SetIndent("", "  ")
	return enc.Encode(v)
}
