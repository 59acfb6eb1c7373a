// Package text holds the forms of words and lines that several commands print: numbers
// with their noun, lists cut short, text of any origin made safe for a terminal, and
// lines broken at a width. It imports no other package of xfrmfw.
package text
