// Package config reads xfrmfw's configuration file. It never guesses: a file
// with any mistake is refused as a whole, with the line and column of each.
//
// It doesn't look at the host: whether an interface or a tunnel of that name
// exists is not its business, as they come and go.
package config
