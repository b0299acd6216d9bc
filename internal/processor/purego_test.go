//go:build purego

package processor_test

const purego = true
