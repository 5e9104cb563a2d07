// Answers with BuildKit's own packages what tests/integration/test_names.py asks. One JSON object on stdin, one on
// stdout: `files` are parsed, `words` expanded, `builds` converted for a platform as in a build.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/instructions"
	"github.com/moby/buildkit/frontend/dockerfile/linter"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerfile/shell"
	"github.com/moby/buildkit/frontend/dockerui"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"
	ocispecs "github.com/opencontainers/image-spec/specs-go/v1"
)

type question struct {
	Files []string `json:"files"`
	Words []struct {
		Text   string            `json:"text"`
		Escape string            `json:"escape"`
		Values map[string]string `json:"values"`
	} `json:"words"`
	Builds []struct {
		Text     string            `json:"text"`
		Platform string            `json:"platform"`
		Build    string            `json:"build"`
		Target   string            `json:"target"`
		Args     map[string]string `json:"args"`
	} `json:"builds"`
}

type stage struct {
	Name string   `json:"name"`
	Base string   `json:"base"`
	Line int      `json:"line"`
	From []string `json:"from"`
}

// parsed is a file's stages, with names as they are written.
type parsed struct {
	Stages []stage `json:"stages"`
	Error  string  `json:"error"`
}

type expanded struct {
	Result string `json:"result"`
	Error  string `json:"error"`
}

// converted is what a build would pull: name and platform of each image. Commands are those that it would run, with
// their platform; what is built the same has the same Head.
type converted struct {
	Images   [][2]string `json:"images"`
	Commands [][2]string `json:"commands"`
	Head     string      `json:"head"`
	Config   config      `json:"config"`
	Error    string      `json:"error"`
}

// config is what of an image's configuration a contract repeats.
type config struct {
	User        string              `json:"User"`
	Ports       map[string]struct{} `json:"ExposedPorts"`
	Volumes     map[string]struct{} `json:"Volumes"`
	Cmd         []string            `json:"Cmd"`
	Healthcheck struct {
		Test []string `json:"Test"`
	} `json:"Healthcheck"`
}

func read(text string) ([]stage, error) {
	tree, err := parser.Parse(strings.NewReader(text))
	if err != nil {
		return nil, err
	}
	stages, _, err := instructions.Parse(tree.AST, linter.New(&linter.Config{}))
	if err != nil {
		return nil, err
	}
	found := []stage{}
	for _, each := range stages {
		made := stage{Name: each.Name, Base: each.BaseName, Line: each.Location[0].Start.Line, From: []string{}}
		for _, command := range each.Commands {
			switch command := command.(type) {
			case *instructions.CopyCommand:
				if command.From != "" {
					made.From = append(made.From, command.From)
				}
			case *instructions.RunCommand:
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

// resolver knows every image, and writes down which were asked for.
type resolver struct {
	lock  sync.Mutex
	asked map[[2]string]bool
}

func (r *resolver) ResolveImageConfig(_ context.Context, ref string, opt sourceresolver.Opt) (
	string, digest.Digest, []byte, error,
) {
	r.lock.Lock()
	defer r.lock.Unlock()
	platform := *opt.ImageOpt.Platform
	name := strings.TrimSuffix(strings.TrimPrefix(ref, "docker.io/library/"), ":latest")
	r.asked[[2]string{name, platforms.FormatAll(platforms.Normalize(platform))}] = true
	layers := ocispecs.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromString(ref)}}
	image, err := json.Marshal(ocispecs.Image{Platform: platform, RootFS: layers})
	return ref, "", image, err
}

func convert(text, platform, build, target string, args map[string]string) (converted, error) {
	found := converted{Images: [][2]string{}, Commands: [][2]string{}}
	wanted, err := platforms.Parse(platform)
	if err != nil {
		return found, err
	}
	machine, err := platforms.Parse(build)
	if err != nil {
		return found, err
	}
	wanted, machine = platforms.Normalize(wanted), platforms.Normalize(machine)
	caps := pb.Caps.CapSet(pb.Caps.All())
	known := &resolver{asked: map[[2]string]bool{}}
	files := llb.Image("files") // a local context would be another one each time
	result, err := dockerfile2llb.Dockerfile2LLB(context.Background(), []byte(text), dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{
			BuildArgs: args, Target: target, BuildPlatforms: []ocispecs.Platform{machine}, MultiPlatformRequested: true,
		},
		TargetPlatform: &wanted,
		MetaResolver:   known,
		MainContext:    &files,
		LLBCaps:        &caps,
	})
	for image := range known.asked {
		found.Images = append(found.Images, image)
	}
	slices.SortFunc(found.Images, func(a, b [2]string) int { return strings.Compare(a[0]+a[1], b[0]+b[1]) })
	if err != nil {
		return found, err
	}
	built, err := result.State.Marshal(context.Background())
	if err != nil {
		return found, err
	}
	for _, data := range built.Def {
		step := &pb.Op{}
		if err := step.UnmarshalVT(data); err != nil {
			return found, err
		}
		if run := step.GetExec(); run != nil {
			on := platforms.Normalize(step.Platform.Spec())
			found.Commands = append(found.Commands, [2]string{strings.Join(run.Meta.Args, " "), platforms.FormatAll(on)})
		}
	}
	image, err := json.Marshal(result.Image)
	if err != nil {
		return found, err
	}
	found.Head = digest.FromBytes(slices.Concat(append([][]byte{image}, built.Def...)...)).String()
	said := struct{ Config *config }{&found.Config}
	return found, json.Unmarshal(image, &said)
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func main() {
	asked := question{}
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	files, words, builds := []parsed{}, []expanded{}, []converted{}
	for _, text := range asked.Files {
		stages, err := read(text)
		files = append(files, parsed{stages, message(err)})
	}
	for _, word := range asked.Words {
		values := []string{}
		for name, value := range word.Values {
			values = append(values, name+"="+value)
		}
		result, _, err := shell.NewLex(rune(word.Escape[0])).ProcessWord(word.Text, shell.EnvsFromSlice(values))
		words = append(words, expanded{result, message(err)})
	}
	for _, one := range asked.Builds {
		made, err := convert(one.Text, one.Platform, one.Build, one.Target, one.Args)
		made.Error = message(err)
		builds = append(builds, made)
	}
	answers := map[string]any{"files": files, "words": words, "builds": builds}
	if err := json.NewEncoder(os.Stdout).Encode(answers); err != nil {
		panic(err)
	}
}
