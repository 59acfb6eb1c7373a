package config

import (
	"maps"
	"slices"

	"github.com/goccy/go-yaml/ast"
)

// described is the input that a reader takes: any of the kinds that are set. A nil one
// takes no notes, because the parser reads a file then.
type described struct {
	keys                map[string]*described
	items               *described
	words               []string
	text, number, truth bool
}

// noteText notes that text is taken. Like the other notes it reports whether the reader is
// only described.
func (d *described) noteText() bool {
	if d != nil {
		d.text = true
	}
	return d != nil
}

func (d *described) noteNumber() bool {
	if d != nil {
		d.number = true
	}
	return d != nil
}

func (d *described) noteTruth() bool {
	if d != nil {
		d.truth = true
	}
	return d != nil
}

func (d *described) noteWords(words ...string) bool {
	if d == nil {
		return false
	}
	for _, word := range words {
		if !slices.Contains(d.words, word) {
			d.words = append(d.words, word)
		}
	}
	return true
}

// noteKeys notes a mapping with its keys. The function describe returns the description
// of a key's reader.
func (d *described) noteKeys(known map[string]func(ast.Node), describe func(func(ast.Node)) *described) bool {
	if d == nil {
		return false
	}
	if d.keys == nil {
		d.keys = make(map[string]*described)
		for _, key := range slices.Sorted(maps.Keys(known)) {
			if known[key] != nil {
				d.keys[key] = describe(known[key])
			}
		}
	}
	return true
}

func (d *described) noteItems(read func(ast.Node), describe func(func(ast.Node)) *described) bool {
	if d != nil && d.items == nil {
		d.items = describe(read)
	}
	return d != nil
}

// schema returns the description as a JSON schema.
func (d *described) schema() object {
	var kinds []object
	if d.keys != nil {
		properties := make(object)
		for key, value := range d.keys {
			properties[key] = value.schema()
		}
		kinds = append(kinds, object{"type": "object", "properties": properties, "additionalProperties": false})
	}
	if d.items != nil {
		kinds = append(kinds, object{"type": "array", "items": d.items.schema(), "minItems": 1})
	}
	switch {
	case d.text:
		kinds = append(kinds, object{"type": "string"})
	case len(d.words) > 0:
		kinds = append(kinds, object{"enum": d.words})
	}
	if d.number {
		kinds = append(kinds, object{"type": "integer", "minimum": 0})
	}
	if d.truth {
		kinds = append(kinds, object{"type": "boolean"})
	}
	if len(kinds) == 1 {
		return kinds[0]
	}
	return object{"anyOf": kinds}
}

type object = map[string]any
