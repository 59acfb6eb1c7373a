package main

import (
	"context"
	"runtime/debug"
	"testing"
)

// The collector is the process's, which main sets.
func TestOpenGatewayLeavesTheCollectorAlone(t *testing.T) {
	defer debug.SetGCPercent(debug.SetGCPercent(100))
	t.Setenv("GOGC", "")
	if _, err := openGateway(context.Background(), &options{config: "/nosuch.yaml", stateDir: t.TempDir()}, "snapshot.json"); err != nil {
		t.Fatal(err)
	}
	if percent := debug.SetGCPercent(100); percent != 100 {
		t.Errorf("the collector starts at %d percent, was 100", percent)
	}
}
