//go:build linux && !android && cgo && !purego && (amd64 || arm64 || riscv64)

package test

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/rseq-go/rseq"
	"github.com/rseq-go/rseq/internal/section"
	"github.com/rseq-go/rseq/internal/testutil"
)

// TestLiveCheck: the kernel aborts a section whose thread is disturbed. If it did not, the check
// would find that: an unarmed section is not aborted.
func TestLiveCheck(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	for _, how := range section.Disturbances {
		const rounds = 5
		aborted, survived, err := section.LiveCheck(how, rounds, false)
		if errors.Is(err, unix.ENODEV) {
			t.Logf("%v: one CPU", how)
			continue
		}
		if aborted != rounds || survived != 0 || err != nil {
			t.Errorf("%v: aborted %d times of %d, ran on %d times, %v", how, aborted, rounds, survived, err)
		}
		aborted, survived, err = section.LiveCheck(how, rounds, true)
		if errors.Is(err, unix.ENODEV) {
			// On one CPU all rounds above may have been aborted when the disturbing thread
			// got its turn, before it looked at the CPUs.
			t.Logf("%v: one CPU", how)
			continue
		}
		if aborted != 0 || survived != rounds || err != nil {
			t.Errorf("unarmed, %v: aborted %d times, ran on %d times of %d, %v", how, aborted, survived, rounds, err)
		}
	}
}

// TestManyCPUs: the live check moves threads also if the kernel returns EINVAL for a mask of 1,024
// CPUs.
func TestManyCPUs(t *testing.T) {
	testutil.NeedSections(t, rseq.ByCPU)
	if len(testutil.AllowedCPUs(t)) < 2 {
		t.Skip("one CPU")
	}
	filter := testutil.GoBuild(t, "./testdata/filter", nil)
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := testutil.Run(t, nil, filter, "EINVAL:sched_getaffinity/1<256", self, "-test.run", "^TestLiveCheck$", "-test.v")
	if !strings.Contains(out, "--- PASS: TestLiveCheck") || strings.Contains(out, "one CPU") {
		t.Error(out)
	}
}

// TestLiveCheckInconclusive: a round in which the disturbance did not happen does not count, and
// the error says why it did not: testdata/live.c.
func TestLiveCheckInconclusive(t *testing.T) {
	testutil.NeedCompilers(t)
	testutil.NeedSections(t, rseq.ByCPU)
	program := testutil.CC(t, append([]string{"-O2", "testdata/live.c"}, testutil.CPart(t, "live.c")...)...)
	for _, what := range []string{"right", "held", "no handler", "no proc", "pin", "descriptor", "exhausted"} {
		t.Run(what, func(t *testing.T) { t.Log(testutil.Run(t, nil, program, what)) })
	}
}

// TestLiveCheckOfOthers: a library that registers a thread at its first allocation registers the
// threads of a live check. If a library does not register them, the error says so. A check on
// threads with real-time priority ends.
func TestLiveCheckOfOthers(t *testing.T) {
	program := testutil.GoBuild(t, "./testdata/threads", nil)
	testutil.NeedSections(t, rseq.ByCPU)
	const aborted = "5 0 <nil>\n"
	live := func(t *testing.T, want string, env []string, command ...string) {
		t.Helper()
		out := testutil.Run(t, env, command[0], append(command[1:], "live")...)
		lines := strings.SplitAfter(out, "\n")
		if len(testutil.AllowedCPUs(t)) == 1 && len(lines) == 4 {
			lines[2] = "" // on one CPU no thread migrates
		} else {
			want += want[:strings.Index(want, "\n")+1]
		}
		if got := strings.Join(lines, ""); got != want {
			t.Errorf("%s, want %s", out, want)
		}
	}
	t.Run("real time", func(t *testing.T) {
		if _, err := exec.LookPath("chrt"); err != nil {
			t.Skip(err)
		}
		if _, why, err := testutil.Try(nil, "chrt", "-f", "10", "true"); err != nil {
			t.Skipf("no real-time priority here: %s", why)
		}
		live(t, aborted+aborted, nil, "chrt", "-f", "10", program)
	})
	if !testutil.OnGlibc() || testutil.Guest() {
		return
	}
	foreign := func(flag string) []string {
		return []string{testutil.TunableOff, "LD_PRELOAD=" + testutil.CC(t, "-DSIGNATURE=RSEQGO_SIG", "-DSYMBOL", flag, "-shared", "-fPIC", "testdata/foreign.c", "-ldl", "-lpthread")}
	}
	t.Run("when a thread allocates", func(t *testing.T) { live(t, aborted+aborted, foreign("-DLAZY"), program) })
	t.Run("the main thread only", func(t *testing.T) {
		const said = "0 0 rseq: live check: the thread made for it has no area: the library that owns the areas did not register it, " +
			"though it allocated memory, or its registration was refused\n"
		live(t, said+said, foreign("-DMAIN"), program)
	})
}

// TestWrongDescriptors: the kernel kills a process with a wrong descriptor, and aborts a section
// with a right one. From Linux 6.19 on it accepts some wrong ones.
func TestWrongDescriptors(t *testing.T) {
	if testing.Short() {
		t.Skip("builds C programs; not with -short")
	}
	testutil.NeedSections(t, rseq.ByCPU)
	out := testutil.Run(t, nil, testutil.CC(t, append([]string{"testdata/wrong.c"}, testutil.CPart(t)...)...))
	t.Log(out)
	const aborted, exhausted, killed = "exit 0", "exit 2", "signal 11" // RSEQGO_SPIN_ABORTED, _EXHAUSTED
	for _, want := range [][]string{
		{"its own", aborted}, {"the same", aborted}, {"no signature", killed},
		{"abort inside", killed, aborted}, {"version 1", killed, aborted},
		{"unmapped", killed}, {"elsewhere", exhausted},
	} {
		var line string
		line, out, _ = strings.Cut(out, "\n")
		if name, ended, _ := strings.Cut(line, ": "); name != want[0] || !slices.Contains(want[1:], ended) {
			t.Errorf("%q, want %s: %s", line, want[0], strings.Join(want[1:], " or "))
		}
	}
	if out != "" {
		t.Errorf("and then %q", out)
	}
}
