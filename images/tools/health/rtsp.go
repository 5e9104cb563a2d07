package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/textproto"
	"net/url"
	"strconv"
	"strings"
)

const (
	rtspPort   = "554"
	rtspLength = 1 << 16 // bytes; an answer to OPTIONS has some hundred
)

// rtspProbe wants an OPTIONS request to be answered with one of the wanted statuses.
// https://www.rfc-editor.org/rfc/rfc2326#section-10.1
func rtspProbe(address string, wanted statuses) (probe, error) {
	asked, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	if asked.Scheme != "rtsp" || asked.Hostname() == "" {
		return nil, fmt.Errorf("%q is not an rtsp URL", address)
	}
	port := asked.Port()
	if port == "" {
		port = rtspPort
	}
	// About the server itself, or about one stream of it. A password is for another method.
	about := "*"
	if asked.Path != "" && asked.Path != "/" {
		about = (&url.URL{Scheme: "rtsp", Host: asked.Host, Path: asked.Path, RawPath: asked.RawPath,
			RawQuery: asked.RawQuery}).String()
	}
	request := "OPTIONS " + about + " RTSP/1.0\r\nCSeq: 1\r\nUser-Agent: desimages-health\r\n\r\n"

	return func(ctx context.Context) error {
		connection, err := new(net.Dialer).DialContext(ctx, "tcp", net.JoinHostPort(asked.Hostname(), port))
		if err != nil {
			return err
		}
		defer connection.Close()
		if deadline, limited := ctx.Deadline(); limited {
			connection.SetDeadline(deadline)
		}
		if _, err := io.WriteString(connection, request); err != nil {
			return err
		}
		code, reason, err := rtspAnswer(io.LimitReader(connection, rtspLength))
		if err != nil {
			return fmt.Errorf("%s: %w", address, err)
		}
		if !wanted.has(code) {
			return fmt.Errorf("%s answered %s, not %s", address, reason, wanted)
		}
		return nil
	}, nil
}

// rtspAnswer reads an answer to its end, and returns its status, as a number and as it was said.
func rtspAnswer(from io.Reader) (int, string, error) {
	reader := textproto.NewReader(bufio.NewReader(from))
	line, err := reader.ReadLine()
	if err != nil {
		return 0, "", unexpected(err)
	}
	said, isRTSP := strings.CutPrefix(line, "RTSP/1.0 ")
	number, _, _ := strings.Cut(said, " ")
	code, err := status(number)
	if !isRTSP || err != nil {
		return 0, "", fmt.Errorf("%.40q is no answer in RTSP/1.0", line)
	}
	header, err := reader.ReadMIMEHeader()
	if err != nil {
		return 0, "", unexpected(err)
	}
	if length := header.Get("Content-Length"); length != "" {
		size, err := strconv.ParseInt(length, 10, 64)
		if err != nil || size < 0 {
			return 0, "", fmt.Errorf("Content-Length %.40q is no number", length)
		}
		if _, err := io.CopyN(io.Discard, reader.R, size); err != nil {
			return 0, "", unexpected(err)
		}
	}
	return code, said, nil
}

// unexpected says of an answer that ends too early that this was not to be expected.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
