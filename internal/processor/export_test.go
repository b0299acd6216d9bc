package processor

// Distort changes the numbers that comparisons get from instructions.
func Distort(change func(uint32) uint32) (restore func()) {
	here.mu.Lock()
	defer here.mu.Unlock()
	other := real
	other.read = func(w way) uint32 { return change(read(w)) }
	here.m = &other
	return func() {
		here.mu.Lock()
		defer here.mu.Unlock()
		here.m = &real
	}
}

// Instructions returns the names of those that the processor has.
func Instructions() (names []string) {
	for _, w := range instructions() {
		names = append(names, w.String())
	}
	return names
}

// Reads returns the number that each instruction of this machine reads, by its name.
func Reads() map[string]uint32 {
	all := map[string]uint32{}
	for _, w := range instructions() {
		all[w.String()] = read(w)
	}
	return all
}
