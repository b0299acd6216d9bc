package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"text/tabwriter"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/abi"
	"github.com/rseq-go/rseq/internal/processor"
)

// reading is what one thread's area says now; nil where nothing tells.
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

func show(out io.Writer, asJSON bool) error {
	info, err := rseq.Query()
	r := read()
	if asJSON {
		if e := showJSON(out, info, r); e != nil {
			return e
		}
	} else {
		showText(out, info, r)
	}
	if err != nil {
		return errNo{}
	}
	return nil
}

// fields lists the fields that may be read.
func fields(i rseq.Info) []abi.Field {
	all := []abi.Field{}
	for _, f := range abi.Fields {
		if i.Size >= f.Needs {
			all = append(all, f)
		}
	}
	return all
}

// showJSON prints one object: info's keys, the fields, then the reading's.
func showJSON(out io.Writer, info rseq.Info, r reading) error {
	object := map[string]any{}
	object["fields"] = fields(info)
	object["without_area"] = processor.Again()
	for _, part := range []any{info, r} {
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

func showText(out io.Writer, i rseq.Info, r reading) {
	fmt.Fprintf(out, "The rseq area of this process: pid %d, %s, %s/%s\n\n",
		os.Getpid(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	row := func(key string, value any, meaning, source string) {
		fmt.Fprintf(w, "%s\t%v\t%s\t%s\n", key, value, meaning, source)
	}
	row("FIELD", "VALUE", "MEANING", "KNOWN FROM")
	row("owner", i.Owner, owners[i.Owner], "via "+orDash(i.Via)+": "+vias[i.Via])
	row("libc", orDash(i.Libc), "the C library of this program", "the C library")
	row("offset", fmt.Sprintf("%+d", i.Offset), "bytes from the thread pointer to the area", vias[i.Via])
	row("libc_size", i.LibcSize, "bytes of fields, as the C library says it", "__rseq_size")
	row("size", i.Size, "bytes of fields that may be read", "libc_size; where it is 20 or 32, the kernel's up to 32")
	row("features", orDash(i.Features.String()), "the fields that are there", "size")
	row("flags", fmt.Sprintf("%#x", i.Flags), "flags of the registration", "__rseq_flags")
	row("confirmed", i.Confirmed, "whether this thread is registered at that address", "rseq(2), asked without changing anything")
	row("registered_len", i.RegisteredLen, "bytes that are registered", "rseq(2)")
	row("signature", fmt.Sprintf("%#x", i.Signature), "stands before every abort handler", "rseq(2)")
	row("mode", i.Mode, "how the kernel keeps the fields", "registered_len, AT_RSEQ_FEATURE_SIZE: v2 if both are more than 32")
	row("critical_sections", yesNo(i.CriticalSections), "whether critical sections may run", "owner, signature; on arm64 a live check if the kernel may be faulty")
	row("align_required", i.AlignRequired, "alignment that the kernel wants", "registered_len, AT_RSEQ_ALIGN")
	row("align_actual", i.AlignActual, "alignment of this thread's area", "its address")
	row("kernel_feature_size", i.KernelFeatureSize, "bytes of fields that the kernel knows; 0: not told, before Linux 6.3", "AT_RSEQ_FEATURE_SIZE")
	row("kernel_align", i.KernelAlign, "alignment that the kernel advertises; 0: not told", "AT_RSEQ_ALIGN")
	from := "the area"
	if i.Owner == rseq.OwnerNone {
		from = processor.Again().Way
	}
	row("cpu", number(r.CPU), "the CPU that this thread just ran on", from)
	row("node_id", number(r.NodeID), "its NUMA node", from)
	row("mm_cid", number(r.MMCID), "concurrency id: small, unique among this process's running threads", "the area")
	from = "prctl(2)"
	if !r.Slice {
		from = strings.TrimPrefix(r.noSlice.Error(), "rseq: ")
	}
	row("slice_extension", yesNo(r.Slice), "whether a thread can ask for more time", from)
	w.Flush()
	var at []string
	for _, f := range fields(i) {
		at = append(at, fmt.Sprintf("%s %d", f.Name, f.Offset))
	}
	if len(at) > 0 {
		fmt.Fprintf(out, "\nWhere its fields are, in bytes: %s\n", strings.Join(at, ", "))
	}
	fmt.Fprintf(out, "\nA thread without an area has CPU and node from %v\n", processor.Again())
	if i.Reason != "" {
		fmt.Fprintf(out, "\n%s\n", strings.TrimPrefix(i.Reason, "rseq: "))
	}
}

var owners = map[rseq.Owner]string{
	rseq.OwnerNone:    "nobody registered one; CPU and node come from elsewhere",
	rseq.OwnerLibc:    "the C library registered one for each thread",
	rseq.OwnerSelf:    "nobody else did, so this package, for each thread that asks",
	rseq.OwnerForeign: "another library of this program did",
}

var vias = map[string]string{
	"":       "no area was found",
	"dlsym":  "__rseq_offset, found by dlsym",
	"direct": "__rseq_offset, resolved by the static link",
	"symbol": "the thread-local symbol __rseq_abi",
	"kernel": "the kernel, asked along the thread's TLS",
	"own":    "it is this package's own",
}

func yesNo(yes bool) string {
	if yes {
		return "yes"
	}
	return "no"
}

func number(n *int) any {
	if n == nil {
		return "-"
	}
	return *n
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
