package main

// convention is no section. It computes its results from its arguments.
func init() {
	operations = append(operations, operation{"convention", func(i *image) []*scenario {
		n := len(i.arch.arguments)
		s := &scenario{
			function: "convention", title: "all arguments", slow: -1, status: -1, start: onZero,
			mayWrite: func(*memory, thread) []span { return nil },
		}
		var mixed outcome
		for k := range n {
			s.args = append(s.args, u64(100*uint64(k+1)))
			mixed.results = append(mixed.results, u64(100*uint64((k+1)%n+1)+uint64(k+1)))
		}
		s.do = func(*memory, thread, gate) outcome { return mixed }
		return []*scenario{s}
	}})
}
