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
	"os"
	"strings"
	"time"
)

const usage = `health asks a service whether it is well. It exits with 0 if so, else with 1 and says on stderr what is wrong.

usage: health http [-status 200] [-timeout 3s] URL
           a GET is answered in full, with that status; a redirect is an answer, certificates are not verified
       health tcp [-timeout 3s] HOST:PORT
           a connection is accepted
       health dns [-server HOST[:PORT]] [-timeout 3s] NAME
           the name has an address, by that server or else by those of /etc/resolv.conf
       health rtsp [-status 200-299] [-timeout 3s] rtsp://HOST[:PORT][/PATH]
           an OPTIONS request is answered in full, with that status; the port is 554 unless given

-status takes codes and ranges: 200,401 or 200-299. After -timeout a service that is silent is not well.
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
		return nil, 0, errors.New("say http, tcp, dns or rtsp")
	}
	kind, args := args[0], args[1:]
	flags := flag.NewFlagSet(kind, flag.ContinueOnError)
	flags.SetOutput(io.Discard) // run says it
	timeout := flags.Duration("timeout", 3*time.Second, "")

	var build func(subject string) (probe, error)
	switch kind {
	case "http":
		wanted := statuses{{200, 200}}
		flags.Var(&wanted, "status", "")
		build = func(url string) (probe, error) { return httpProbe(url, wanted) }
	case "tcp":
		build = tcpProbe
	case "dns":
		server := flags.String("server", "", "")
		build = func(name string) (probe, error) { return dnsProbe(name, *server) }
	case "rtsp":
		wanted := statuses{{200, 299}}
		flags.Var(&wanted, "status", "")
		build = func(url string) (probe, error) { return rtspProbe(url, wanted) }
	case "help", "-h", "-help", "--help":
		return nil, 0, flag.ErrHelp
	default:
		return nil, 0, fmt.Errorf("%q is not http, tcp, dns or rtsp", kind)
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
