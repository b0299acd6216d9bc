package main

import (
	"bytes"
	"image/color"
	"math"
	"strconv"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
)

// colors of the scenarios' bars, told apart by color-blind people too.
var colors = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
}

const (
	barWidth = 8 // points
	rowSpace = 6
)

// plot draws the medians as horizontal bars, on a logarithmic axis, kind under kind,
// as SVG. The same report gives the same bytes.
func (r *report) plot() ([]byte, error) {
	sans := font.Font{Typeface: "Liberation", Variant: "Sans"}
	style := func(size vg.Length) text.Style {
		f := sans
		f.Size = size
		return text.Style{Color: color.Black, Font: f, Handler: plot.DefaultTextHandler, YAlign: text.YCenter}
	}
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = "ns for one operation: medians, logarithmic scale, less is better"
	p.Title.TextStyle.Font = style(12).Font
	p.Title.Padding = 6
	p.X.Tick.Label.Font = style(10).Font
	p.Y.Tick.Label.Font = style(10).Font
	p.Y.Tick.Length = 0
	p.Y.LineStyle.Width = 0
	p.Legend.TextStyle.Font = style(10).Font
	p.Legend.Top = true
	p.Legend.Padding = 3
	p.Legend.XOffs, p.Legend.YOffs = -6, -2

	// Bars reach down to a power of ten below all.
	low, high := math.Inf(1), math.Inf(-1)
	for _, m := range r.Scenarios {
		for _, x := range m.Results {
			low, high = min(low, x.Ns[1]), max(high, x.Ns[1])
		}
	}
	low = math.Floor(math.Log10(low))
	length := func(ns float64) float64 { return math.Log10(ns) - low }

	// A row for each contender, and one above each kind, from the top down.
	type row struct {
		name   string
		header bool
	}
	var rows []row
	for k := range kinds {
		for i, name := range r.of(k) {
			if i == 0 {
				rows = append(rows, row{k.String(), true})
			}
			rows = append(rows, row{name, false})
		}
	}
	place := func(i int) float64 { return float64(len(rows) - 1 - i) }

	grid := plotter.NewGrid()
	grid.Horizontal.Width = 0
	grid.Vertical.Color = color.Gray{0xdd}
	p.Add(grid)
	var labels labels
	for s, m := range r.Scenarios {
		values := make(plotter.Values, len(rows))
		offset := vg.Length(float64(len(r.Scenarios)-1)/2-float64(s)) * barWidth
		for i, row := range rows {
			if row.header {
				continue // of no length
			}
			ns := m.result(row.name).Ns[1]
			values[len(rows)-1-i] = length(ns)
			labels.add(length(ns), place(i), offset, show(ns), style(7))
		}
		bars, err := plotter.NewBarChart(values, barWidth-1)
		if err != nil {
			return nil, err
		}
		bars.Horizontal = true
		bars.Offset = offset
		bars.LineStyle.Width = 0
		bars.Color = colors[s%len(colors)]
		p.Add(bars)
		p.Legend.Add(m.Name, bars)
	}
	var names plot.ConstantTicks
	for i, row := range rows {
		if !row.header {
			names = append(names, plot.Tick{Value: place(i), Label: row.name})
			continue
		}
		labels.add(0, place(i), -1.5*barWidth, row.name, style(11))
	}
	p.Add(&labels)
	p.Y.Tick.Marker = names
	p.Y.Min, p.Y.Max = -0.6, float64(len(rows))-0.4
	p.X.Min, p.X.Max = 0, length(high)+0.35
	var ticks plot.ConstantTicks
	for d := 0; float64(d) <= p.X.Max; d++ {
		for n := 1.0; n < 10; n++ {
			x := float64(d) + math.Log10(n)
			label := ""
			if n == 1 || n == 2 || n == 5 {
				label = strconv.FormatFloat(n*math.Pow(10, float64(d)+low), 'g', 3, 64)
			}
			if x <= p.X.Max {
				ticks = append(ticks, plot.Tick{Value: x, Label: label})
			}
		}
	}
	p.X.Tick.Marker = ticks

	height := vg.Length(len(rows))*(vg.Length(max(len(r.Scenarios), 1))*barWidth+rowSpace) + 76
	c := vgsvg.New(720, height)
	whole := draw.New(c)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	p.Draw(draw.Crop(whole, 8, -8, 8, -8))
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// The font may not be where it is shown.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// labels are texts right of places, moved up by some points.
type labels []label

type label struct {
	x, y   float64
	offset vg.Length
	text   string
	style  text.Style
}

func (l *labels) add(x, y float64, offset vg.Length, text string, style text.Style) {
	*l = append(*l, label{x, y, offset, text, style})
}

func (l *labels) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, l := range *l {
		c.FillText(l.style, vg.Point{X: x(l.x) + 2, Y: y(l.y) + l.offset}, l.text)
	}
}
