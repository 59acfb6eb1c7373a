package main

import (
	"context"
	"io"
	"path/filepath"
	"reflect"
	"testing"
)

// Scrapes look at the host beside the daemon's own turns, so the two have nothing
// in common that either changes. The programs are made for several at once, and
// the configuration is only read.
func TestScrapesShareNothingWithTheDaemon(t *testing.T) {
	entered := make(chan error)
	done := make(chan struct{})
	defer close(done)
	var d *daemon
	go func() {
		err := enter()
		if err == nil {
			dir := t.TempDir()
			o := &options{config: filepath.Join(dir, "none.yaml"), runDir: filepath.Join(dir, "run"), stateDir: filepath.Join(dir, "lib")}
			d = &daemon{o: o, log: newLogger(io.Discard), service: newService(), measure: newMeasure(o)}
			err = d.load(context.Background())
			if err == nil {
				err = d.load(context.Background()) // as SIGHUP does
			}
		}
		entered <- err
		<-done
	}()
	if err := <-entered; err != nil {
		need(t, "netns", "netns: "+err.Error())
	}
	own, scraped := reflect.ValueOf(*d.g), reflect.ValueOf(*d.measure.read.Load())
	for i := range own.NumField() {
		name := own.Type().Field(i).Name
		if name == "programs" || name == "config" {
			continue
		}
		for _, shared := range sharedPointers(own.Field(i), scraped.Field(i), name) {
			t.Errorf("%s is the daemon's and the scrapes'", shared)
		}
	}
}

// sharedPointers names what leads from both values to the same memory.
func sharedPointers(a, b reflect.Value, name string) []string {
	switch a.Kind() {
	case reflect.Pointer, reflect.Map, reflect.Chan, reflect.Slice:
		if !a.IsNil() && a.Pointer() == b.Pointer() {
			return []string{name}
		}
	case reflect.Struct:
		var found []string
		for i := range a.NumField() {
			found = append(found, sharedPointers(a.Field(i), b.Field(i), name+"."+a.Type().Field(i).Name)...)
		}
		return found
	}
	return nil
}
