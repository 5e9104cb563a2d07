// Health asks a service whether it is well: for HEALTHCHECK in images that have no shell.
//
// It exits with 0 when the service is well, with 1 and one line on stderr when it is not, and with 2 when health itself
// was not asked properly.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"
)

const usage = `usage: health http [-status 200] [-timeout 3s] URL
       health tcp [-timeout 3s] HOST:PORT
       health dns [-server HOST[:PORT]] [-timeout 3s] NAME
`

// Exit codes.
const (
	healthy   = 0
	unhealthy = 1
	misused   = 2
)

// A probe returns nil when the service is well, else what is wrong with it.
type probe func(context.Context) error

func main() {
	os.Exit(run(os.Args[1:], os.Stdout, os.Stderr))
}

func run(args []string, stdout, stderr io.Writer) int {
	ask, timeout, err := parse(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return healthy
	case err != nil:
		fmt.Fprintf(stderr, "health: %v\n%s", err, usage)
		return misused
	}

	ctx, cancel := context.WithTimeout(context.Background(), timeout)
	defer cancel()
	if err := ask(ctx); err != nil {
		fmt.Fprintf(stderr, "unhealthy: %s\n", strings.Join(strings.Fields(err.Error()), " "))
		return unhealthy
	}
	return healthy
}

// parse turns a command line into the probe that it describes and the time that the service has to answer. Flags may
// stand before or after the probe's subject.
func parse(args []string) (probe, time.Duration, error) {
	if len(args) == 0 {
		return nil, 0, errors.New("say http, tcp or dns")
	}
	kind, args := args[0], args[1:]
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run says it
	timeout := flags.Duration("timeout", 3*time.Second, "")

	var build func(subject string) (probe, error)
	switch kind {
	case "http":
		status := flags.Int("status", http.StatusOK, "")
		build = func(url string) (probe, error) { return httpProbe(url, *status) }
	case "tcp":
		build = tcpProbe
	case "dns":
		server := flags.String("server", "", "")
		build = func(name string) (probe, error) { return dnsProbe(name, *server) }
	case "help", "-h", "-help", "--help":
		return nil, 0, flag.ErrHelp
	default:
		return nil, 0, fmt.Errorf("%q is not http, tcp or dns", kind)
	}

	var subjects []string
	for {
		if err := flags.Parse(args); err != nil {
			return nil, 0, err
		}
		if flags.NArg() == 0 {
			break
		}
		subjects, args = append(subjects, flags.Arg(0)), flags.Args()[1:]
	}
	if len(subjects) != 1 {
		return nil, 0, fmt.Errorf("%s takes one argument, not %d", kind, len(subjects))
	}
	if *timeout <= 0 {
		return nil, 0, fmt.Errorf("-timeout %v leaves no time to answer", *timeout)
	}
	ask, err := build(subjects[0])
	return ask, *timeout, err
}
