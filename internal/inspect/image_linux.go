package inspect

import (
	"bytes"
	"debug/buildinfo"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// image has the programs and libraries that are mapped into a process, with what tells who
// owns its rseq areas. It is read from the process's memory and not from the files, which
// may have been replaced, or be in another mount namespace.
type image struct {
	dir     string // the process's folder in /proc
	memory  *os.File
	objects []*object // in the order of their addresses
	program *object   // the main program; nil if it was not found
	none    string    // why a thread has no area
}

// object is a mapped program or library.
type object struct {
	path    string // in the process's mount namespace: any bytes
	base    uint64 // added to the addresses in its file
	tls     elf.ProgHeader
	symbols map[string]elf.Symbol // the wanted symbols that it defines
	glibc   int                   // N of the last symbol version GLIBC_2.N that it defines
}

// wanted are the symbols that are looked up.
var wanted = []string{rseqOffset, rseqSize, rseqABI, glibcVersion, startMain}

const (
	rseqOffset   = "__rseq_offset"        // glibc 2.35
	rseqSize     = "__rseq_size"          // glibc 2.35
	rseqABI      = "__rseq_abi"           // of a library that registers areas
	glibcVersion = "gnu_get_libc_version" // glibc has it
	startMain    = "__libc_start_main"    // every C library has it

	deletedMark = " (deleted)" // at the end of a path
)

// Sizes in bytes in 64-bit programs, and bounds on the counts that a process may claim.
const (
	wordBytes   = 8
	symbolBytes = 24 // of elf.Sym64
	dynBytes    = 16 // of elf.Dyn64

	maxObjects = 4096
	maxDynamic = 4096    // entries of a dynamic section
	limit      = 1 << 20 // of any other count
)

// readImage reads the image of the process or thread whose folder in /proc is dir. It leaves
// out mappings that it does not understand.
func readImage(dir string) (*image, error) {
	maps, err := os.ReadFile(dir + "maps")
	if err != nil {
		return nil, err
	}
	memory, err := os.Open(dir + "mem")
	if err != nil {
		return nil, err
	}
	im := &image{dir: dir, memory: memory}
	entry := im.auxiliary(9)  // AT_ENTRY, in the main program
	code := map[string]bool{} // files with an executable mapping
	var list []mapping
	for line := range strings.Lines(string(maps)) {
		m, usable := parseMapping(line)
		if !usable {
			continue
		}
		code[m.file] = code[m.file] || m.executable
		if m.readable && m.offset == 0 {
			list = append(list, m)
		}
	}
	for _, m := range list {
		// Only programs are read: reading a device's memory may have an effect.
		if !code[m.file] || len(im.objects) == maxObjects {
			continue
		}
		o, end, err := im.readObject(m.start)
		if err != nil {
			continue // data, or a program for another machine
		}
		o.path = m.path
		im.objects = append(im.objects, o)
		if m.start <= entry && entry < end {
			im.program = o
		}
	}
	if im.libc() == nil {
		im.addStatic()
	}
	im.none = im.whyNone()
	return im, nil
}

// mapping is one line of /proc/PID/maps.
type mapping struct {
	start, offset        uint64
	readable, executable bool
	file                 string // device and inode
	path                 string
}

// parseMapping reads a line like "7f..-7f.. r--p 00000000 fe:01 1234   /usr/lib/libc.so.6".
// It is usable if the file may be a program.
func parseMapping(line string) (m mapping, usable bool) {
	f := strings.SplitN(strings.TrimSuffix(line, "\n"), " ", 6)
	if len(f) < 6 || len(f[1]) != 4 {
		return m, false
	}
	m.path = strings.TrimSuffix(strings.TrimLeft(f[5], " "), deletedMark)
	m.file = f[3] + " " + f[4]
	m.readable, m.executable = f[1][0] == 'r', f[1][2] == 'x'
	from, _, _ := strings.Cut(f[0], "-")
	var errs [2]error
	m.start, errs[0] = strconv.ParseUint(from, 16, 64)
	m.offset, errs[1] = strconv.ParseUint(f[2], 16, 64)
	device := slices.ContainsFunc([]string{"/dev/", "/sys/", "/proc/"}, func(dir string) bool { return strings.HasPrefix(m.path, dir) })
	return m, strings.HasPrefix(m.path, "/") && !device && errors.Join(errs[:]...) == nil
}

func (im *image) close() { im.memory.Close() }

// auxiliary returns an entry of the process's auxiliary vector.
func (im *image) auxiliary(key uint64) uint64 {
	data, _ := os.ReadFile(im.dir + "auxv")
	for ; len(data) >= 16; data = data[16:] {
		if binary.NativeEndian.Uint64(data) == key {
			return binary.NativeEndian.Uint64(data[8:])
		}
	}
	return 0
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV}

var errNotELF = errors.New("no ELF object for this machine")

// readObject reads the object whose first byte is mapped at start, and returns where it ends.
func (im *image) readObject(start uint64) (o *object, end uint64, err error) {
	var header elf.Header64
	if err := im.read(start, &header); err != nil {
		return nil, 0, err
	}
	if !bytes.HasPrefix(header.Ident[:], []byte(elf.ELFMAG)) || elf.Class(header.Ident[elf.EI_CLASS]) != elf.ELFCLASS64 ||
		elf.Machine(header.Machine) != machines[runtime.GOARCH] || int(header.Phentsize) != binary.Size(elf.Prog64{}) {
		return nil, 0, errNotELF
	}
	headers := make([]elf.Prog64, header.Phnum)
	if err := im.read(start+header.Phoff, headers); err != nil {
		return nil, 0, err
	}
	o = &object{symbols: map[string]elf.Symbol{}}
	first := slices.IndexFunc(headers, func(h elf.Prog64) bool { return elf.ProgType(h.Type) == elf.PT_LOAD && h.Off == 0 })
	if first < 0 {
		return nil, 0, errNotELF
	}
	o.base = start - headers[first].Vaddr
	var dynamic elf.Prog64
	for _, h := range headers {
		switch elf.ProgType(h.Type) {
		case elf.PT_LOAD:
			end = max(end, o.base+h.Vaddr+h.Memsz)
		case elf.PT_DYNAMIC:
			dynamic = h
		case elf.PT_TLS:
			o.tls = elf.ProgHeader{Vaddr: h.Vaddr, Memsz: h.Memsz, Align: max(h.Align, 1)}
		}
	}
	if dynamic.Memsz > 0 {
		im.readDynamic(o, dynamic)
	}
	return o, end, nil
}

// read reads a value from the process's memory.
func (im *image) read(at uint64, v any) error {
	return binary.Read(io.NewSectionReader(im.memory, int64(at), int64(binary.Size(v))), binary.NativeEndian, v)
}

// word reads a word, zero if none is mapped there.
func (im *image) word(at uint64) (v uint64) {
	im.read(at, &v)
	return v
}

func (im *image) half(at uint64) (v uint32) {
	im.read(at, &v)
	return v
}

// readDynamic looks up the wanted symbols in the tables that the loader uses.
func (im *image) readDynamic(o *object, dynamic elf.Prog64) {
	table := make([]elf.Dyn64, min(dynamic.Memsz/dynBytes, maxDynamic))
	if im.read(o.base+dynamic.Vaddr, table) != nil {
		return
	}
	at := map[elf.DynTag]uint64{}
	for _, d := range table {
		at[elf.DynTag(d.Tag)] = d.Val
	}
	// glibc's loader adds the base to these addresses in place, other loaders do not.
	address := func(tag elf.DynTag) uint64 {
		if v := at[tag]; v < o.base {
			return v + o.base
		}
		return at[tag]
	}
	names, symbols := address(elf.DT_STRTAB), address(elf.DT_SYMTAB)
	take := func(index uint32, name string) bool {
		var s elf.Sym64
		text := make([]byte, len(name)+1)
		if im.read(symbols+uint64(index)*symbolBytes, &s) != nil || im.read(names+uint64(s.Name), text) != nil || string(text) != name+"\x00" {
			return false
		}
		if elf.SectionIndex(s.Shndx) != elf.SHN_UNDEF {
			o.symbols[name] = elf.Symbol{Name: name, Info: s.Info, Value: s.Value, Size: s.Size}
		}
		return true
	}
	for _, name := range wanted {
		if at[elf.DT_GNU_HASH] != 0 {
			im.gnuHash(address(elf.DT_GNU_HASH), name, take)
		} else if at[elf.DT_HASH] != 0 {
			im.sysvHash(address(elf.DT_HASH), name, take)
		}
	}
	if _, glibc := o.symbols[glibcVersion]; glibc {
		text := make([]byte, min(at[elf.DT_STRSZ], limit))
		im.read(names, text)
		for text := range bytes.SplitSeq(text, []byte{0}) {
			if minor, found := bytes.CutPrefix(text, []byte("GLIBC_2.")); found {
				if n, err := strconv.Atoi(string(minor)); err == nil {
					o.glibc = max(o.glibc, n)
				}
			}
		}
	}
}

// gnuHash calls take with each symbol that the hash table of DT_GNU_HASH lists for name, until
// take returns true.
func (im *image) gnuHash(table uint64, name string, take func(index uint32, name string) bool) {
	var header struct{ Buckets, First, Bloom, Shift uint32 }
	if im.read(table, &header) != nil || header.Buckets == 0 || header.Bloom == 0 {
		return
	}
	hash := uint32(5381)
	for _, c := range []byte(name) {
		hash = hash*33 + uint32(c)
	}
	filter := im.word(table + 16 + wordBytes*uint64(hash/64%header.Bloom))
	if filter>>(hash%64)&1 == 0 || filter>>(hash>>(header.Shift%32)%64)&1 == 0 {
		return // the filter excludes it
	}
	buckets := table + 16 + wordBytes*uint64(header.Bloom)
	chains := buckets + 4*uint64(header.Buckets)
	index := im.half(buckets + 4*uint64(hash%header.Buckets))
	for n := 0; index >= header.First && index != 0 && n < limit; n++ {
		link := im.half(chains + 4*uint64(index-header.First))
		if link|1 == hash|1 && take(index, name) || link&1 != 0 {
			return
		}
		index++
	}
}

// sysvHash does the same with the hash table of DT_HASH.
func (im *image) sysvHash(table uint64, name string, take func(index uint32, name string) bool) {
	var header struct{ Buckets, Chains uint32 }
	if im.read(table, &header) != nil || header.Buckets == 0 {
		return
	}
	hash := uint32(0)
	for _, c := range []byte(name) {
		hash = hash<<4 + uint32(c)
		top := hash & 0xf0000000
		hash = (hash ^ top>>24) &^ top
	}
	index := im.half(table + 8 + 4*uint64(hash%header.Buckets))
	for n := 0; index != 0 && n < limit && !take(index, name); n++ {
		index = im.half(table + 8 + 4*uint64(header.Buckets) + 4*uint64(index))
	}
}

// addStatic adds the symbols from the main program's file. They are not mapped, and a static
// program has no others.
func (im *image) addStatic() {
	if im.program == nil {
		return
	}
	file, err := elf.Open(im.dir + "exe")
	if err != nil {
		return
	}
	defer file.Close()
	symbols, _ := file.Symbols()
	for _, s := range symbols {
		if s.Section != elf.SHN_UNDEF && slices.Contains(wanted, s.Name) {
			im.program.symbols[s.Name] = s
		}
	}
}

// Claimants returns the paths of the programs and libraries in this process that define
// __rseq_abi, the symbol of libraries that register areas.
func Claimants() (paths []string, err error) {
	p := process{pid: os.Getpid()}
	if err := p.open(); err != nil {
		return nil, err
	}
	defer p.close()
	if p.image, err = readImage(p.path("")); err != nil {
		return nil, err
	}
	for _, o := range p.image.defines(rseqABI, elf.STT_TLS) {
		paths = append(paths, o.path)
	}
	return paths, nil
}

// defines returns the objects that define a symbol with that name and kind.
func (im *image) defines(name string, kind elf.SymType) (list []*object) {
	for _, o := range im.objects {
		if s, found := o.symbols[name]; found && elf.ST_TYPE(s.Info) == kind {
			list = append(list, o)
		}
	}
	return list
}

// registers reports whether there is a C library that has the rseq symbols, and whether it
// registers its threads.
func (im *image) registers() (known, does bool) {
	for _, o := range im.defines(rseqSize, elf.STT_OBJECT) {
		known = true
		does = does || im.half(o.base+o.symbols[rseqSize].Value) != 0
	}
	return known, does
}

// owner returns the owner of the area at address, in the thread with thread pointer tp.
func (im *image) owner(address, tp uint64) (Owner, *object) {
	for _, o := range im.defines(rseqOffset, elf.STT_OBJECT) {
		size, found := o.symbols[rseqSize]
		// If the size is zero the C library has an area, but did not register it.
		if found && im.half(o.base+size.Value) != 0 && tp+im.word(o.base+o.symbols[rseqOffset].Value) == address {
			return Libc, o
		}
	}
	if from, to := im.programTLS(tp); from <= address && address < to {
		return Object, im.program
	}
	libraries := im.defines(rseqABI, elf.STT_TLS)
	if len(libraries) == 0 {
		return Unknown, nil
	}
	// The symbol's value is its offset in the object's TLS block. The DTV of a thread has the
	// addresses of its blocks, in two words each in glibc and one in musl.
	vector := im.word(tp + dtvOffset[runtime.GOARCH])
	blocks := make([]uint64, 1024)
	for len(blocks) > 1 && im.read(vector, blocks) != nil {
		blocks = blocks[:len(blocks)/2]
	}
	for _, o := range libraries {
		if slices.Contains(blocks, address-o.symbols[rseqABI].Value) {
			return Object, o
		}
	}
	return Unknown, nil
}

// dtvOffset is the distance from the thread pointer to the address of the DTV (glibc's
// tcbhead_t, and musl's on amd64). On riscv64 it is -16.
var dtvOffset = map[string]uint64{"amd64": 8, "arm64": 0, "riscv64": ^uint64(15)}

// programTLS returns the addresses of the main program's thread-local variables. Its block
// is the first of static TLS, beside the thread pointer.
func (im *image) programTLS(tp uint64) (from, to uint64) {
	if im.program == nil || im.program.tls.Memsz == 0 {
		return 0, 0
	}
	size, align := im.program.tls.Memsz, im.program.tls.Align
	switch runtime.GOARCH {
	case "arm64":
		from = (tp + 16 + align - 1) &^ (align - 1)
		return from, from + size
	case "riscv64":
		return tp, tp + size
	}
	return tp - (size+align-1)&^(align-1), tp
}

// whyNone returns the likely reason why the C library did not register a thread's area.
func (im *image) whyNone() string {
	known, does := im.registers()
	environment, _ := os.ReadFile(im.dir + "environ")
	for setting := range bytes.SplitSeq(environment, []byte{0}) {
		if tunables, found := bytes.CutPrefix(setting, []byte("GLIBC_TUNABLES=")); found && !does &&
			slices.Contains(strings.Split(string(tunables), ":"), "glibc.pthread.rseq=0") {
			return "its environment has glibc.pthread.rseq=0"
		}
	}
	status, _ := os.ReadFile(im.dir + "status")
	mode, _ := field(status, "Seccomp")
	switch library := im.libc(); {
	case does:
		return "its C library did not make the thread, or the thread is starting or ending"
	case known && mode != "" && mode != "0":
		return "its C library was probably refused, by its seccomp filter"
	case known:
		return "its C library was refused, was switched off, or has not registered it yet"
	case library == nil:
		return im.whyNoLibrary()
	case library.glibc > 0:
		return fmt.Sprintf("its C library, glibc 2.%d, does not register: 2.35 does", library.glibc)
	case library == im.program:
		return "its C library, linked statically, does not register: glibc 2.35 does"
	default:
		return fmt.Sprintf("its C library, %s, does not register: glibc 2.35 does", quote(path.Base(library.path)))
	}
}

// libc returns the C library of the process, nil if none was found.
func (im *image) libc() *object {
	for _, o := range im.objects {
		if _, found := o.symbols[startMain]; found {
			return o
		}
	}
	return nil
}

func (im *image) whyNoLibrary() string {
	if im.program != nil && im.program.symbols[startMain].Name == "" {
		if _, err := buildinfo.ReadFile(im.dir + "exe"); err == nil {
			return "a program in Go, without a C library"
		}
	}
	return "no C library was found in it"
}

// quote makes text from another process safe to print on a terminal.
func quote(text string) string { return strconv.QuoteToASCII(text) }
