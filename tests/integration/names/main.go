// Prints what BuildKit's own parser sees in Dockerfiles: for each file its stages, and for each stage the names it takes from.
package main

import (
	"encoding/json"
	"fmt"
	"os"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
)

type stage struct {
	Name string   `json:"name"`
	Base string   `json:"base"`
	Line int      `json:"line"`
	From []string `json:"from"`
}

func read(path string) ([]stage, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	tree, err := parser.Parse(file)
	if err != nil {
		return nil, err
	}
	stages, arguments, err := instructions.Parse(tree.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, err
	}
	lex := shell.NewLex(tree.EscapeToken)
	values := []string{}
	for _, argument := range arguments {
		for _, pair := range argument.Args {
			if pair.Value != nil {
				value, _, err := lex.ProcessWord(*pair.Value, shell.EnvsFromSlice(values))
				if err != nil {
					return nil, err
				}
				values = append(values, pair.Key+"="+value)
			}
		}
	}
	found := []stage{}
	for _, each := range stages {
		base, _, err := lex.ProcessWord(each.BaseName, shell.EnvsFromSlice(values))
		if err != nil {
			return nil, err
		}
		made := stage{Name: each.Name, Base: base, Line: each.Location[0].Start.Line, From: []string{}}
		for _, command := range each.Commands {
			switch command := command.(type) {
			case *instructions.CopyCommand:
				if command.From != "" {
					made.From = append(made.From, command.From)
				}
			case *instructions.RunCommand:
				if err := command.Expand(func(word string) (string, error) { return word, nil }); err != nil {
					return nil, err
				}
				for _, mount := range instructions.GetMounts(command) {
					if mount.From != "" {
						made.From = append(made.From, mount.From)
					}
				}
			}
		}
		found = append(found, made)
	}
	return found, nil
}

func main() {
	all := map[string][]stage{}
	for _, path := range os.Args[1:] {
		stages, err := read(path)
		if err != nil {
			fmt.Fprintln(os.Stderr, path, err)
			os.Exit(1)
		}
		all[path] = stages
	}
	if err := json.NewEncoder(os.Stdout).Encode(all); err != nil {
		panic(err)
	}
}
