// Registry is distribution's cmd/registry with what this project's contract asks for on top: its log goes to stdout, which
// no configuration key does, a failure ends in an exit code, and the debug port shows metrics but no profiles. It stores in a
// folder or in S3: the drivers for other clouds would be two fifths of the program.
package main

import (
	"os"

	"github.com/distribution/distribution/v3/registry"
	_ "github.com/distribution/distribution/v3/registry/auth/htpasswd"
	_ "github.com/distribution/distribution/v3/registry/auth/token"
	_ "github.com/distribution/distribution/v3/registry/proxy"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/filesystem"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/redirect"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/middleware/rewrite"
	_ "github.com/distribution/distribution/v3/registry/storage/driver/s3-aws"
	"github.com/sirupsen/logrus"
)

func main() {
	logrus.SetOutput(os.Stdout)
	if err := registry.RootCmd.Execute(); err != nil {
		os.Exit(1)
	}
}
