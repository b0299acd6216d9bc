//go:build linux && !purego

package processor_test

const purego = false
