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

// colors of the scenarios' dots, told apart by color-blind people too.
var colors = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff}, color.RGBA{0x56, 0xb4, 0xe9, 0xff},
	color.RGBA{0xe6, 0x9f, 0x00, 0xff}, color.RGBA{0xd5, 0x5e, 0x00, 0xff},
}

const (
	lineHeight  = 8 // points, for each dot of a row
	rowSpace    = 6
	legendWidth = 165
	// Room for names in a font that is wider than the one that they are measured with.
	nameSpace = 40
	gap       = "\u00a0\u00a0\u00a0" // the same towards the axis
)

var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

func style(size vg.Length) text.Style {
	f := sans
	f.Size = size
	return text.Style{Color: color.Black, Font: f, Handler: plot.DefaultTextHandler, YAlign: text.YCenter}
}

// plot draws the medians as dots on a logarithmic axis, kind under kind, as SVG. The same
// report gives the same bytes.
func (r *report) plot() ([]byte, error) {
	p := plot.New()
	p.BackgroundColor = color.White
	p.Title.Text = "ns for one operation: medians, logarithmic scale, less is better"
	p.Title.TextStyle.Font = style(12).Font
	p.Title.Padding = 6
	p.X.Tick.Label.Font = style(10).Font
	p.Y.Tick.Label.Font = style(10).Font
	p.Y.Tick.Length = 0
	p.Y.LineStyle.Width = 0

	low, high := math.Inf(1), math.Inf(-1)
	for _, m := range r.Scenarios {
		for _, x := range m.Results {
			low, high = min(low, x.Ns[1]), max(high, x.Ns[1])
		}
	}
	low, high = math.Floor(math.Log10(low)*10-0.5)/10, math.Log10(high)+0.35

	// A row for each contender, and one above each kind, from the top down.
	type row struct {
		name   string
		header bool
	}
	var rows []row
	for k := range kinds {
		for i, name := range namesOf(r.Scenarios, k) {
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
	var marks marks
	for s, m := range r.Scenarios {
		offset := vg.Length(float64(len(r.Scenarios)-1)/2-float64(s)) * lineHeight
		for i, row := range rows {
			if !row.header {
				ns := m.result(row.name).Ns[1]
				marks = append(marks, mark{math.Log10(ns), place(i), offset, show(ns), style(7), glyph(s)})
			}
		}
	}
	var names plot.ConstantTicks
	for i, row := range rows {
		if !row.header {
			names = append(names, plot.Tick{Value: place(i), Label: row.name + gap})
			continue
		}
		marks = append(marks, mark{low, place(i), -1.5 * lineHeight, row.name, style(11), draw.GlyphStyle{}})
	}
	p.Add(marks)
	p.Y.Tick.Marker = names
	p.Y.Min, p.Y.Max = -0.6, float64(len(rows))-0.4
	p.X.Min, p.X.Max = low, high
	var ticks plot.ConstantTicks
	for d := math.Floor(low); d <= high; d++ {
		for n := 1.0; n < 10; n++ {
			x := d + math.Log10(n)
			label := ""
			if n == 1 || n == 2 || n == 5 {
				label = strconv.FormatFloat(n*math.Pow(10, d), 'g', 3, 64)
			}
			if x >= low && x <= high {
				ticks = append(ticks, plot.Tick{Value: x, Label: label})
			}
		}
	}
	p.X.Tick.Marker = ticks

	lines := max(len(r.Scenarios), 1)
	height := vg.Length(len(rows))*(vg.Length(lines)*lineHeight+rowSpace) + 96
	width := max(760, vg.Length(lines)*legendWidth+60)
	c := vgsvg.New(width, height)
	whole := draw.New(c)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	for s, m := range r.Scenarios {
		at := vg.Point{X: 40 + vg.Length(s)*legendWidth, Y: height - 16}
		whole.DrawGlyph(glyph(s), at)
		whole.FillText(style(10), vg.Point{X: at.X + 8, Y: at.Y}, m.Name)
	}
	p.Draw(draw.Crop(whole, nameSpace, -24, 8, -28))
	return svg(c)
}

// svg returns what was drawn.
func svg(c *vgsvg.Canvas) ([]byte, error) {
	var b bytes.Buffer
	if _, err := c.WriteTo(&b); err != nil {
		return nil, err
	}
	// The font may not be where it is shown.
	return bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"),
		[]byte("font-family:Liberation Sans,Arial,Helvetica,sans-serif;")), nil
}

// lines draws throughput over goroutines, both on logarithmic axes, a panel for each kind,
// as SVG. A dotted line stands where there is a goroutine for each CPU.
func (r *report) lines() ([]byte, error) {
	const panel, height = 300, 330
	var panels []kind
	for k := range kinds {
		if len(namesOf(r.Scaling, k)) > 0 {
			panels = append(panels, k)
		}
	}
	low, high := math.Inf(1), math.Inf(-1)
	for _, m := range r.Scaling {
		for _, x := range m.Results {
			low, high = min(low, throughput(x)), max(high, throughput(x))
		}
	}
	low, high = math.Floor(low), math.Ceil(high)+1 // room for the legend
	width := vg.Length(max(len(panels), 1)) * panel
	c := vgsvg.New(width, height)
	whole := draw.New(c)
	whole.SetColor(color.White)
	whole.Fill(whole.Rectangle.Path())
	for i, k := range panels {
		p := plot.New()
		p.BackgroundColor = color.White
		p.Title.Text = k.String()
		p.Y.Label.Text = "millions in a second"
		p.Title.TextStyle.Font = style(11).Font
		p.Title.Padding = 4
		p.X.Label.Text = "goroutines"
		for _, f := range []*font.Font{&p.X.Label.TextStyle.Font, &p.Y.Label.TextStyle.Font, &p.X.Tick.Label.Font, &p.Y.Tick.Label.Font, &p.Legend.TextStyle.Font} {
			*f = style(9).Font
		}
		p.Legend.Top, p.Legend.Left = true, true
		p.Legend.XOffs, p.Legend.YOffs, p.Legend.Padding = 6, -2, 2
		grid := plotter.NewGrid()
		grid.Vertical.Width = 0
		grid.Horizontal.Color = color.Gray{0xdd}
		p.Add(grid)
		cpus, err := plotter.NewLine(plotter.XYs{{X: math.Log2(float64(r.CPUs)), Y: low}, {X: math.Log2(float64(r.CPUs)), Y: high - 0.9}})
		if err != nil {
			return nil, err
		}
		cpus.Color, cpus.Dashes = color.Gray{0x88}, []vg.Length{1, 3}
		p.Add(cpus)
		for n, name := range namesOf(r.Scaling, k) {
			var points plotter.XYs
			for _, m := range r.Scaling {
				points = append(points, plotter.XY{X: math.Log2(float64(m.Workers)), Y: throughput(m.result(name))})
			}
			line, dots, err := plotter.NewLinePoints(points)
			if err != nil {
				return nil, err
			}
			line.Color, line.Width = colors[n%len(colors)], 1.5
			dots.GlyphStyle = glyph(n)
			p.Add(line, dots)
			p.Legend.Add(name, line, dots)
		}
		var x, y plot.ConstantTicks
		for _, m := range r.Scaling {
			x = append(x, plot.Tick{Value: math.Log2(float64(m.Workers)), Label: strconv.Itoa(m.Workers)})
		}
		for d := low; d < high; d++ {
			y = append(y, plot.Tick{Value: d, Label: strconv.FormatFloat(math.Pow(10, d), 'f', -1, 64)})
		}
		p.X.Tick.Marker, p.Y.Tick.Marker = x, y
		p.Y.Min, p.Y.Max = low, high
		p.X.Min, p.X.Max = -0.2, math.Log2(float64(8*r.CPUs))+0.2
		p.Draw(draw.Crop(whole, vg.Length(i)*panel+6, -vg.Length(len(panels)-1-i)*panel-10, 6, -8))
	}
	return svg(c)
}

// throughput is a contender's, the logarithm of millions in a second.
func throughput(x result) float64 { return math.Log10(1000 / x.Ns[1]) }

// glyph is how the dots of a scenario look.
func glyph(scenario int) draw.GlyphStyle {
	return draw.GlyphStyle{Color: colors[scenario%len(colors)], Radius: 3, Shape: draw.CircleGlyph{}}
}

// marks are dots with texts to their right, moved up by some points.
type marks []mark

type mark struct {
	x, y   float64
	offset vg.Length
	text   string
	style  text.Style
	glyph  draw.GlyphStyle // without a shape: none
}

func (l marks) Plot(c draw.Canvas, p *plot.Plot) {
	x, y := p.Transforms(&c)
	for _, m := range l {
		at := vg.Point{X: x(m.x), Y: y(m.y) + m.offset}
		if m.glyph.Shape != nil {
			c.DrawGlyph(m.glyph, at)
			at.X += 4
		}
		c.FillText(m.style, vg.Point{X: at.X + 2, Y: at.Y}, m.text)
	}
}
