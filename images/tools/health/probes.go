package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
)

// httpProbe wants a GET of url to be answered with one of the wanted statuses. A redirect is an answer, it is not followed. Certificates are
// not verified: a container asks itself, by an address that its certificate does not name.
func httpProbe(url string, wanted statuses) (probe, error) {
	request, err := http.NewRequest(http.MethodGet, url, nil)
	if err != nil {
		return nil, err
	}
	if scheme := request.URL.Scheme; (scheme != "http" && scheme != "https") || request.URL.Host == "" {
		return nil, fmt.Errorf("%q is not an http or https URL", url)
	}
	request.Header.Set("User-Agent", "desimages-health")
	client := &http.Client{
		// No proxy: what is asked is near, and the environment's proxy is for what is far.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return func(ctx context.Context) error {
		response, err := client.Do(request.WithContext(ctx))
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if !wanted.has(response.StatusCode) {
			return fmt.Errorf("%s answered %s, not %s", url, response.Status, wanted)
		}
		// Who dies in the middle of an answer is not well.
		if _, err := io.Copy(io.Discard, io.LimitReader(response.Body, 1<<20)); err != nil {
			return fmt.Errorf("%s: %w", url, err)
		}
		return nil
	}, nil
}

// tcpProbe wants address to accept a connection.
func tcpProbe(address string) (probe, error) {
	if _, _, err := net.SplitHostPort(address); err != nil {
		return nil, err
	}
	return func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return err
		}
		return connection.Close()
	}, nil
}

// dnsProbe wants an address for name: from server, or without one from whom /etc/resolv.conf names.
func dnsProbe(name, server string) (probe, error) {
	resolver := &net.Resolver{PreferGo: true}
	if server != "" {
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(strings.Trim(server, "[]"), "53")
		}
		resolver.Dial = func(ctx context.Context, network, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, network, server)
		}
	}
	// Absolute, so that neither a search domain nor /etc/hosts has a say.
	absolute := strings.TrimSuffix(name, ".") + "."
	return func(ctx context.Context) error {
		_, err := resolver.LookupNetIP(ctx, "ip", absolute)
		if failure := (*net.DNSError)(nil); errors.As(err, &failure) && server != "" {
			failure.Server = server // not the one of /etc/resolv.conf, who was not asked
		}
		return err
	}, nil
}
