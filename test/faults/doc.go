// Package faults holds tests alone: see main_test.go.
package faults
