module github.com/rseq-go/rseq/vm

go 1.26.0

require github.com/rseq-go/rseq v0.0.0

require github.com/cavaliergopher/cpio v1.0.1

replace github.com/rseq-go/rseq => ../
