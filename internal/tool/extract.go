package tool

import (
	"regexp"
	"strings"
)

var (
	failLine = regexp.MustCompile(`^\s*--- FAIL: `)
	// Lines that name a test that failed, or that was running when the time was over.
	namingLine = regexp.MustCompile(failLine.String() + `|^panic: |^fatal error: |^SIG[A-Z]+: |^WARNING: DATA RACE` +
		`|^\s+running tests:|^\t\t(Test|Fuzz|Example)\S* \(`)
	logLine = regexp.MustCompile(`^\s+\S+\.go:\d+: `)
)

// lastLines and namingLines are the most lines of each kind that Extract returns.
const lastLines, namingLines = 40, 40

// Extract returns the part of the output of failed tests that is shown: the lines that name a
// failure, with the first lines that the test printed, and the last lines. The stacks of
// goroutines between them may be long.
func Extract(output string) string {
	lines := strings.Split(strings.TrimRight(output, "\n"), "\n")
	last := max(0, len(lines)-lastLines)
	wanted := map[int]bool{}
	for i, line := range lines[:last] {
		if !namingLine.MatchString(line) {
			continue
		}
		wanted[i] = true
		if failLine.MatchString(line) { // with -test.v the test's output stands before it
			for n := 1; n <= 3 && i+n < last && logLine.MatchString(lines[i+n]); n++ {
				wanted[i+n] = true
			}
			for n := 1; n <= 3 && i-n >= 0 && logLine.MatchString(lines[i-n]); n++ {
				wanted[i-n] = true
			}
		}
	}
	shown := map[string]bool{} // a guest prints some lines twice
	for _, line := range lines[last:] {
		shown[line] = true
	}
	var extract []string
	for i, line := range lines[:last] {
		if wanted[i] && !shown[line] && len(extract) < namingLines {
			extract, shown[line] = append(extract, line), true
		}
	}
	if last > 0 {
		extract = append(extract, "[...]")
	}
	return strings.Join(append(extract, lines[last:]...), "\n")
}
