package main

import (
	"fmt"
	"io"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// command is a command of rseq. Help, the man page and completion are made from it.
type command struct {
	name, operands, does string
	flags                []option
	text                 string // paragraphs
	most                 int    // the most operands, any number if negative
	do                   func(out io.Writer, o options, operands []string) error
}

type option struct {
	name, does string
	value      func(*options) *bool
}

var asJSON = option{"json", "print one JSON object: null for what is not known, addresses and signatures as hexadecimal strings",
	func(o *options) *bool { return &o.json }}

const about = "show and check restartable sequences (rseq)"

var commands []command

func init() { // an initializer would be a cycle, since help refers to it
	commands = []command{
		{"show", "", "the rseq area of this process: is rseq on here?",
			[]option{{"v", "what each line means and how it is known", func(o *options) *bool { return &o.verbose }}, asJSON},
			"Prints what package rseq finds in a process that is started here: what the kernel has, what the C library did, " +
				"where the area of a thread is and who registered it, and what it says now. What is not known is a dash. " +
				"Without a command, this is what rseq does.\n\n" +
				"The status is 1 if there is no area.",
			0, show},
		{"inspect", "PID|NAME...", "whose areas the threads of other processes have",
			[]option{{"all", "every process, a line for each", func(o *options) *bool { return &o.all }},
				{"threads", "a line for each thread, not for each group of equal threads", func(o *options) *bool { return &o.threads }}, asJSON},
			"Asks the kernel what each thread of a process registered, and the process's memory whose that is. The owner is libc " +
				"if the area is where the process's own C library says; the program or library in whose thread-local variables it is " +
				"(for a library by the symbol __rseq_abi); unknown; or none, with the likely reason. " +
				"A name is a process's or its program's.\n\n" +
				"It stops one thread after the other for a moment (ptrace). No thread gets a signal, but a system call that is not " +
				"restarted after signals may return EINTR. It needs Linux 5.13.\n\n" +
				"Names that a process gave itself are printed in quotes, with escapes; in JSON what is not UTF-8 is U+FFFD.\n\n" +
				"The status is 1 if a process that was named cannot be read or has no area in any thread; with --all, if none that can be read has one.",
			-1, inspectAll},
		{"doctor", "", "does it work here, and if not, what to do",
			[]option{{"stress", "also count lost updates and disturb more often: takes some seconds, with four threads for each CPU", func(o *options) *bool { return &o.stress }}, asJSON},
			"Checks what package rseq relies on, by trying it: that the kernel confirms the areas, that critical sections are aborted when " +
				"their thread is preempted, signalled or migrated, that system calls are not filtered. A check ends with ok; warn: right, but " +
				"another program may have a problem with it; skip: not tried, or inconclusive; or FAIL.\n\n" +
				"The status is 1 if a check failed.",
			0, doctor},
		{"run", "[--] COMMAND [ARG...]", "run a command and say what it registered",
			[]option{{"at-start", "say it as soon as something is registered, or after a second, and let the command run on",
				func(o *options) *bool { return &o.atStart }}, asJSON},
			"Runs a command, in this environment or a container, and says on standard error what its threads had registered when they ended. " +
				"It traces that process (ptrace), not those that it starts. With --at-start it looks only at the start.\n\n" +
				"The status is the command's, 128 and the signal if one killed it; 127 if it was not found, 126 if it cannot be run, 125 if it cannot be traced.",
			-1, runCommand},
		{"help", "[COMMAND]", "this text, or a command's", nil, "", 1,
			func(out io.Writer, _ options, operands []string) error { return help(out, operands) }},
		{"version", "", "the version of this program", nil, "Also rseq --version.", 0, version},
		{"completion", "bash|zsh", "completion for a shell", nil,
			"In bash: eval \"$(rseq completion bash)\". In zsh, after compinit: eval \"$(rseq completion zsh)\".", 1, completion},
		{"man", "", "the manual page rseq(1)", nil, "rseq man | man -l -", 0, man},
	}
}

const statuses = "0 yes: there is an area, all is well; 1 no: there is none, a process cannot be read, a check failed; 2 wrong usage; 3 the command itself failed."

func named(name string) (command, bool) {
	i := slices.IndexFunc(commands, func(c command) bool { return c.name == name })
	if i < 0 {
		return command{}, false
	}
	return commands[i], true
}

// synopsis returns the command with its flags and operands.
func (c command) synopsis() string {
	s := "rseq " + c.name
	if c.name == "show" {
		s = "rseq [show]"
	}
	for _, f := range c.flags {
		s += " [" + f.dashed() + "]"
	}
	return strings.TrimRight(s+" "+c.operands, " ")
}

func (f option) dashed() string {
	if len(f.name) == 1 {
		return "-" + f.name
	}
	return "--" + f.name
}

func help(out io.Writer, operands []string) error {
	if len(operands) == 0 {
		fmt.Fprintf(out, "rseq: %s\n\nusage:\n", about)
		for _, c := range commands {
			fmt.Fprintf(out, "  %s\n%s", c.synopsis(), wrap("        ", c.does))
		}
		fmt.Fprintf(out, "\n%s", wrap("status: ", statuses))
		return nil
	}
	c, found := named(operands[0])
	if !found {
		return wrong("there is no command %q", operands[0])
	}
	fmt.Fprintf(out, "usage: %s\n\n%s", c.synopsis(), wrap("", c.does))
	if len(c.flags) > 0 {
		fmt.Fprintln(out)
	}
	for _, f := range c.flags {
		fmt.Fprint(out, wrap(fmt.Sprintf("  %-12s", f.dashed()), f.does))
	}
	for text := range strings.SplitSeq(c.text, "\n\n") {
		if text != "" {
			fmt.Fprintf(out, "\n%s", wrap("", text))
		}
	}
	return nil
}

func version(out io.Writer, _ options, _ []string) error {
	v := "(devel)"
	if info, found := debug.ReadBuildInfo(); found && info.Main.Version != "" {
		v = info.Main.Version
	}
	fmt.Fprintf(out, "rseq %s %s %s/%s\n", v, runtime.Version(), runtime.GOOS, runtime.GOARCH)
	return nil
}

// man prints rseq(1), in the man macros.
func man(out io.Writer, _ options, _ []string) error {
	text := func(s string) string { // escapes what would be a macro
		s = strings.NewReplacer(`\`, `\e`, "-", `\-`).Replace(s)
		if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
			s = `\&` + s
		}
		return s
	}
	fmt.Fprintf(out, ".TH RSEQ 1\n.SH NAME\nrseq \\- %s\n.SH SYNOPSIS\n.nf\n", text(about))
	for _, c := range commands {
		fmt.Fprintln(out, text(c.synopsis()))
	}
	fmt.Fprintf(out, ".fi\n.SH COMMANDS\n")
	for _, c := range commands {
		fmt.Fprintf(out, ".SS %s\n%s\n", text(c.name), text(c.does))
		for _, f := range c.flags {
			fmt.Fprintf(out, ".TP\n.B %s\n%s\n", text(f.dashed()), text(f.does))
		}
		for p := range strings.SplitSeq(c.text, "\n\n") {
			if p != "" {
				fmt.Fprintf(out, ".PP\n%s\n", text(p))
			}
		}
	}
	fmt.Fprintf(out, ".SH EXIT STATUS\n%s\n.SH SEE ALSO\n.BR rseq (2),\n.BR ptrace (2)\n", text(statuses))
	return nil
}

// completion prints the shell code that completes rseq's commands and flags, and the processes
// of inspect.
func completion(out io.Writer, _ options, operands []string) error {
	var names []string
	for _, c := range commands {
		names = append(names, c.name)
	}
	switch {
	case len(operands) == 0:
		return wrong("completion: for which shell: bash or zsh?")
	case operands[0] == "zsh":
		fmt.Fprintln(out, "autoload -U bashcompinit && bashcompinit")
	case operands[0] != "bash":
		return wrong("completion: there is none for %q: expected bash or zsh", operands[0])
	}
	fmt.Fprintf(out, `_rseq() {
	local word=${COMP_WORDS[COMP_CWORD]} words
	if [ "$COMP_CWORD" = 1 ]; then
		words="%s --help --version"
	else
		case ${COMP_WORDS[1]} in
`, strings.Join(names, " "))
	for _, c := range commands {
		words := "--help"
		for _, f := range c.flags {
			words += " " + f.dashed()
		}
		switch c.name {
		case "inspect":
			words += " $(cat /proc/[0-9]*/comm 2>/dev/null | tr -cd 'A-Za-z0-9._+\\n-' | sort -u)"
		case "help":
			words += " " + strings.Join(names, " ")
		case "completion":
			words += " bash zsh"
		}
		fmt.Fprintf(out, "\t\t%s) words=\"%s\" ;;\n", c.name, words)
	}
	fmt.Fprint(out, `		esac
		case ${COMP_WORDS[1]} in
		run) COMPREPLY=($(compgen -W "$words" -c -- "$word")); return ;;
		esac
	fi
	COMPREPLY=($(compgen -W "$words" -- "$word"))
}
complete -F _rseq rseq
`)
	return nil
}
