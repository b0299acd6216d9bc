package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"strconv"
	"syscall"
	"text/tabwriter"

	"github.com/rseq-go/rseq/internal/inspect"
)

func inspectPID(out io.Writer, operand string, asJSON bool) error {
	pid, err := strconv.Atoi(operand)
	if err != nil || pid <= 0 {
		return fmt.Errorf("%w: inspect: %q is not a process id", errUsage, operand)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	r, err := inspect.Process(ctx, pid)
	if errors.Is(err, context.Canceled) {
		return errors.New("interrupted; process " + operand + " runs on")
	}
	if err != nil {
		return errNo{err.Error()}
	}
	if asJSON {
		return printJSON(out, r)
	}
	fmt.Fprintf(out, "The rseq registrations of process %d, as the kernel holds them\n\n", pid)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(w, "TID\tNAME\tADDRESS\tLENGTH\tSIGNATURE\tFLAGS")
	for _, t := range r.Threads {
		// A name can be anything, and so can what a terminal makes of it.
		name := strconv.QuoteToASCII(t.Name)
		if t.Address == 0 {
			fmt.Fprintf(w, "%d\t%s\tnone\t\t\t\n", t.TID, name)
			continue
		}
		fmt.Fprintf(w, "%d\t%s\t%#x\t%d\t%#x\t%#x\n", t.TID, name, t.Address, t.Length, t.Signature, t.Flags)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	if r.Missing != "" {
		fmt.Fprintf(out, "\nThese may not be all threads: %s.\n", r.Missing)
	}
	return nil
}
