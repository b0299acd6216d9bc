package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/kernel"
	"github.com/rseq-go/rseq/internal/processor"
)

// reading has the values of a thread's area; nil if one is not known.
type reading struct {
	CPU     *int `json:"cpu"`
	NodeID  *int `json:"node_id"`
	MMCID   *int `json:"mm_cid"`
	Slice   bool `json:"slice_extension"`
	noSlice error
}

func read() (r reading) {
	t, err := rseq.LockThread()
	if r.noSlice = err; err != nil {
		return r
	}
	defer t.Unlock()
	known := func(n int, err error) *int {
		if err != nil {
			return nil
		}
		return &n
	}
	r.CPU = known(t.CPU())
	r.NodeID = known(t.NodeID())
	r.MMCID = known(t.ConcurrencyID())
	r.noSlice = t.EnableSliceExtension()
	r.Slice = r.noSlice == nil
	return r
}

func show(out io.Writer, o options, _ []string) error {
	info, err := rseq.Query()
	r := read()
	if o.json {
		if e := showJSON(out, info, r); e != nil {
			return e
		}
	} else {
		showText(out, info, r, o.verbose)
	}
	if err != nil {
		return errNo{}
	}
	return nil
}

// showJSON prints one object with the keys of the header, of info and of the reading.
func showJSON(out io.Writer, info rseq.Info, r reading) error {
	object := map[string]any{"pid": os.Getpid(), "without_area": processor.Again()}
	for _, part := range []any{newHeader(), info, r} {
		data, err := json.Marshal(part)
		if err != nil {
			return err
		}
		if err := json.Unmarshal(data, &object); err != nil {
			return err
		}
	}
	return printJSON(out, object)
}

func showText(out io.Writer, i rseq.Info, r reading, verbose bool) {
	row := func(name, value, means, from string) {
		fmt.Fprintf(out, "%-24s%s\n", name, value)
		if verbose {
			fmt.Fprint(out, wrap("      ", means+"; from "+from))
		}
	}
	number := number[uint32]
	without := processor.Again()
	now := func(n *int) string {
		if n == nil {
			return "-"
		}
		return fmt.Sprint(*n)
	}
	const aux = "the auxiliary vector, Linux 6.3"
	row("Kernel", orDash(kernel.Release()), "the release of the kernel", "uname(2)")
	row("  Bytes of fields", number("%d", i.KernelFeatureSize), "how much of struct rseq the kernel knows", "AT_RSEQ_FEATURE_SIZE in "+aux)
	row("  Alignment", number("%d", i.KernelAlign), "what the kernel requires of a registration longer than 32 bytes", "AT_RSEQ_ALIGN in "+aux)
	row("C library", orDash(i.Libc), "the C library of this program", "the library itself")
	size := "-"
	if i.Libc != "" {
		size = fmt.Sprint(i.LibcSize)
	}
	row("  Bytes of fields", size, "what the C library says; 0 if it registered nothing, 20 and 32 mean what the kernel has, up to 32", "__rseq_size")
	row("Area of a thread", owners[i.Owner], "who registered it", "the C library, or the kernel if that registers none")
	known := func(value string) string {
		if i.Owner == rseq.OwnerNone {
			return "-"
		}
		return value
	}
	row("  Owner", i.Owner.String(), "libc, self (this package), foreign (another library), or none", "the same")
	row("  Found", orDash(vias[i.Via]), "how the owner's area was found", "package rseq")
	row("  Offset", known(fmt.Sprintf("%+d", i.Offset)), "bytes from the thread pointer to the area", "where it was found")
	row("  Bytes of fields", number("%d", i.Size), "how many may be read", "the C library's, or what is registered, and the kernel's")
	row("  Kernel's word", i.Confirmed.String(), "whether this thread is registered there", "rseq(2), asked without changing anything")
	row("  Registered bytes", number("%d", i.RegisteredLen), "the length of the registration", "rseq(2)")
	row("  Registered flags", known(fmt.Sprintf("%#x", i.Flags)), "the flags of the registration", "__rseq_flags")
	row("  Signature", number("%#x", i.Signature), "what stands before every abort handler", "rseq(2)")
	mode := "-"
	if i.Mode != rseq.ModeUnknown {
		mode = i.Mode.String()
	}
	row("  Mode", mode, "how the kernel keeps the fields: v2 if more than 32 bytes are registered and it knows more", "the length and the kernel's bytes")
	row("  Alignment", number("%d", i.AlignActual), "of this thread's area", "its address")
	row("  Alignment wanted", number("%d", i.AlignRequired), "by the kernel, for that length", "the length and the kernel's alignment")
	where := func(name string) string {
		for _, f := range abi.Fields {
			if f.Name == name && i.Size >= f.Needs {
				return fmt.Sprintf("the area, at byte %d", f.Offset)
			}
		}
		return without.Way
	}
	row("Features", orDash(i.Features.String()), "the fields that are there", "the area's bytes of fields")
	row("  CPU", now(r.CPU), "the CPU that this thread just ran on", where("cpu_id"))
	row("  NUMA node", now(r.NodeID), "the node of that CPU", where("node_id"))
	row("  Concurrency id", now(r.MMCID), "small, and unique among this process's running threads", where("mm_cid"))
	row("  Critical sections", yesNo(i.CriticalSections), "whether they may run", "the owner, the signature, and on arm64 a live check if the kernel may be faulty")
	why := "prctl(2)"
	if !r.Slice && r.noSlice != nil {
		why += ", or not: " + strings.TrimPrefix(r.noSlice.Error(), "rseq: ")
	}
	row("  Slice extension", yesNo(r.Slice), "whether a thread can ask for more time", why)
	row("Without an area", without.Cost(), "what tells a thread that has none its CPU and NUMA node", "asking it: "+without.Evidence())
	if i.Reason != "" {
		fmt.Fprintf(out, "\n%s", wrap("", strings.TrimPrefix(i.Reason, "rseq: ")))
	}
}

var owners = map[rseq.Owner]string{
	rseq.OwnerNone:    "none is registered",
	rseq.OwnerLibc:    "the C library registered one for each",
	rseq.OwnerSelf:    "this package registers one for each that asks",
	rseq.OwnerForeign: "another library registered one",
}

var vias = map[string]string{
	"dlsym":  "by __rseq_offset, from dlsym",
	"direct": "by __rseq_offset, linked statically",
	"symbol": "by the symbol __rseq_abi",
	"kernel": "by asking the kernel along the thread's TLS",
	"own":    "it is this package's own",
}
