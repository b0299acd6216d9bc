module github.com/rseq-go/rseq

go 1.26.0

require (
	github.com/elastic/go-seccomp-bpf v1.6.0
	github.com/rogpeppe/go-internal v1.16.0
	golang.org/x/sys v0.49.0
)

require (
	golang.org/x/net v0.59.0 // indirect
	golang.org/x/tools v0.51.0 // indirect
)
