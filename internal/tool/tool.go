// Package tool has what gen, docker, vm and bench share.
package tool

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Table calls line with the fields of each line of a file that has fields. A "#" begins a
// comment. Table adds the file and the line number to an error.
func Table(name, text string, line func(fields []string) error) error {
	n := 0
	for l := range strings.Lines(text) {
		n++
		l, _, _ = strings.Cut(l, "#")
		f := strings.Fields(l)
		if len(f) == 0 {
			continue
		}
		if err := line(f); err != nil {
			return fmt.Errorf("%s:%d: %w", name, n, err)
		}
	}
	return nil
}

// FirstLine returns the first line of a text.
func FirstLine(text string) string {
	text, _, _ = strings.Cut(text, "\n")
	return text
}

// Between returns README.md's text with the section between two lines replaced.
func Between(text, begin, section, end string) (string, error) {
	before, rest, begins := strings.Cut(text, begin)
	_, after, ends := strings.Cut(rest, end)
	if !begins || !ends {
		return "", fmt.Errorf("README.md has no place for what is generated: add the lines %q and %q to it",
			strings.TrimSpace(begin), strings.TrimSpace(end))
	}
	return before + begin + section + end + after, nil
}

// WriteFiles writes all files or none: it writes each to a temporary file, then renames all.
func WriteFiles(files map[string][]byte) (err error) {
	var written []string
	defer func() {
		for _, name := range written {
			os.Remove(name)
		}
	}()
	names := slices.Sorted(maps.Keys(files))
	for _, name := range names {
		if is, err := os.Stat(name); err == nil && !is.Mode().IsRegular() {
			return fmt.Errorf("%s is no regular file: it cannot be generated", name)
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		written = append(written, name+".part")
		if err := os.WriteFile(name+".part", files[name], 0o644); err != nil {
			return err
		}
	}
	for _, name := range names {
		if err := os.Rename(name+".part", name); err != nil {
			return err
		}
	}
	return nil
}
