package main

import (
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
)

// mistake is a change of the source that is wrong, and the tests that must notice it.
type mistake struct {
	name string
	why  string   // what goes wrong then
	file string   // the file that is changed
	near string   // text before the place, if find is in the file more than once
	find string   // the text that is replaced
	with string   // the text in its place
	test []string // arguments of go test
	env  []string // variables added to the environment
}

// parse reads a list of mistakes, in the format of mutate/mistakes.
func parse(file, text string) (all []mistake, err error) {
	var m mistake
	begun := 0 // the line where m begins
	var find, with []string
	names := map[string]bool{}
	end := func() error {
		if begun == 0 {
			return nil
		}
		m.find, m.with = strings.Join(find, "\n"), strings.Join(with, "\n")
		for what, is := range map[string]string{"name": m.name, "why": m.why, "file": m.file, "test": strings.Join(m.test, ""), "line with - before it": m.find} {
			if is == "" {
				return fmt.Errorf("%s:%d: a mistake without a %s", file, begun, what)
			}
		}
		if names[m.name] {
			return fmt.Errorf("%s:%d: %s is there already", file, begun, m.name)
		}
		if m.find == m.with {
			return fmt.Errorf("%s:%d: %s changes nothing", file, begun, m.name)
		}
		names[m.name] = true
		all = append(all, m)
		m, begun, find, with = mistake{}, 0, nil, nil
		return nil
	}
	n := 0
	for line := range strings.Lines(text + "\n\n") {
		n++
		line = strings.TrimSuffix(line, "\n")
		if strings.HasPrefix(line, "#") {
			continue
		}
		if line == "" {
			if err := end(); err != nil {
				return nil, err
			}
			continue
		}
		if begun == 0 {
			begun = n
		}
		key, value, _ := strings.Cut(line, ": ")
		switch {
		case line[0] == '-':
			find = append(find, line[1:])
		case line[0] == '+':
			with = append(with, line[1:])
		case key == "name":
			m.name = value
		case key == "why":
			m.why = value
		case key == "file":
			m.file = value
		case key == "near":
			m.near = value
		case key == "test":
			m.test = strings.Fields(value)
		case key == "env":
			m.env = append(m.env, value)
		default:
			return nil, fmt.Errorf("%s:%d: %q: expected name, why, file, near, env or test, a colon and a space, or a line of text with - or + before it", file, n, line)
		}
	}
	return all, nil
}

// command returns the command that runs the tests, for people.
func (m *mistake) command() string {
	return strings.Join(slices.Concat(m.env, []string{"go test"}, m.test), " ")
}

// make returns text with the mistake in it.
func (m *mistake) make(text string) (string, error) {
	begin := 0
	if m.near != "" {
		if n := strings.Count(text, m.near); n != 1 {
			return "", fmt.Errorf("%s has %d times %q, expected once: was it changed? Mend mutate/mistakes", m.file, n, m.near)
		}
		begin = strings.Index(text, m.near)
	}
	n := strings.Count(text[begin:], m.find)
	if n == 0 || n > 1 && m.near == "" {
		return "", fmt.Errorf("%s has %d times %q, expected once: was it changed? Mend mutate/mistakes", m.file, n, m.find)
	}
	return text[:begin] + strings.Replace(text[begin:], m.find, m.with, 1), nil
}

// here reports whether tests on this machine can notice the mistake. They cannot if the file is
// for another architecture, unless the command names that architecture: some tests look at
// programs for each.
func (m *mistake) here() bool {
	name := strings.TrimSuffix(m.file, path.Ext(m.file))
	for _, arch := range []string{"amd64", "arm64", "riscv64"} {
		if strings.HasSuffix(name, "_"+arch) && arch != runtime.GOARCH && !strings.Contains(m.command(), arch) {
			return false
		}
	}
	return true
}
