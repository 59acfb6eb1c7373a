// Package config reads xfrmfw's configuration file. A file with any mistake is refused as
// a whole, with the line and column of each.
//
// It reads nothing of the host, because interfaces and tunnels come and go. Schema
// describes the file for editors.
package config
