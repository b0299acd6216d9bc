package main

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// share writes the file for others and says what it is called.
func (r *report) share(out io.Writer) error {
	picture, err := r.shared()
	if err != nil {
		return err
	}
	name := fmt.Sprintf("rseq-bench-%d-%s.svg", r.CPUs, strings.ReplaceAll(r.Platform, "/", "-"))
	if err := os.WriteFile(name, picture, 0o644); err != nil {
		return err
	}
	fmt.Fprintf(out, "\nwritten: %s\nAttach it to https://github.com/rseq-go/rseq/issues/new?template=benchmark.yml with this row:\n%s\n", name, r.row("you"))
	return nil
}

// shared is one picture with everything in it: the machine, throughput over goroutines,
// the medians, and all figures as JSON.
func (r *report) shared() ([]byte, error) {
	lines, err := r.lines()
	if err != nil {
		return nil, err
	}
	dots, err := r.plot()
	if err != nil {
		return nil, err
	}
	figures, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	texts := []string{r.machine(), strings.Join(r.Modules, ", ")}
	if r.NoSections != "" {
		texts = append(texts, "no critical sections: "+r.NoSections)
	}
	if busy := r.busy(); busy != "" {
		texts = append(texts, "note: "+busy)
	}
	const line, left = 16, 20 // pixels
	var body bytes.Buffer
	body.WriteString("<metadata>")
	if err := xml.EscapeText(&body, figures); err != nil {
		return nil, err
	}
	body.WriteString("</metadata>\n<rect width=\"100%\" height=\"100%\" fill=\"#FFFFFF\"/>\n")
	y, width := 0, 0
	for _, text := range texts {
		y += line
		fmt.Fprintf(&body, `<text x="%d" y="%d" style="font:11px Arial,Helvetica,sans-serif">`, left, y)
		if err := xml.EscapeText(&body, []byte(text)); err != nil {
			return nil, err
		}
		body.WriteString("</text>\n")
	}
	y += line
	for _, picture := range [][]byte{lines, dots} {
		w, h, err := size(picture)
		if err != nil {
			return nil, err
		}
		_, element, _ := bytes.Cut(picture, []byte("<svg "))
		fmt.Fprintf(&body, "<svg y=\"%d\" %s", y, element)
		y += h
		width = max(width, w)
	}
	var b bytes.Buffer
	fmt.Fprintf(&b, "<?xml version=\"1.0\"?>\n<svg xmlns=\"http://www.w3.org/2000/svg\" xmlns:xlink=\"http://www.w3.org/1999/xlink\" "+
		"width=\"%d\" height=\"%d\">\n", width, y)
	b.Write(body.Bytes())
	b.WriteString("</svg>\n")
	return b.Bytes(), nil
}

// size returns a picture's width and height in pixels: it says them in points.
func size(picture []byte) (width, height int, err error) {
	var root struct {
		Width  string `xml:"width,attr"`
		Height string `xml:"height,attr"`
	}
	if err := xml.Unmarshal(picture, &root); err != nil {
		return 0, 0, err
	}
	pixels := func(text string) int {
		points, e := strconv.ParseFloat(strings.TrimSuffix(text, "pt"), 64)
		if e != nil {
			err = fmt.Errorf("the picture's size is %q: expected a number of points", text)
		}
		return int(points*96/72) + 1
	}
	width, height = pixels(root.Width), pixels(root.Height)
	return width, height, err
}
