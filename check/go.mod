module github.com/rseq-go/rseq/check

go 1.26.0

require github.com/rseq-go/rseq v0.0.0

replace github.com/rseq-go/rseq => ../
