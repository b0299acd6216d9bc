package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"time"
)

// engineFailed is the docker command's exit status if the command or the engine failed, and not
// the container.
const engineFailed = 125

// command returns a docker command. It does not get signals from the terminal: this tool ends
// it with its context.
func command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = 10 * time.Second
	return cmd
}

// docker runs a docker command and returns its output.
func docker(ctx context.Context, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := command(ctx, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("docker %s: %w", args[0], explain(ctx, err, stderr.String()))
	}
	return strings.TrimSpace(stdout.String()), nil
}

// explain adds advice to an error of the docker command.
func explain(ctx context.Context, err error, stderr string) error {
	stderr = strings.TrimSpace(stderr)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	advice := ""
	switch {
	case errors.Is(err, exec.ErrNotFound):
		return errors.New("there is no docker command: install a Docker Engine (Debian: docker.io)")
	case strings.Contains(stderr, "permission denied") && strings.Contains(stderr, "sock"):
		advice = "no permission on the engine's socket: run as root, or as a member of the group docker"
	case strings.Contains(stderr, "Cannot connect to the Docker daemon") || strings.Contains(stderr, "error during connect"):
		advice = "no Docker Engine answers: start it (service docker start)"
	case strings.Contains(stderr, "no space left"):
		advice = "the disk is full: docker system prune, or give it more room"
	default:
		return fmt.Errorf("%w\n%s", err, stderr)
	}
	return fmt.Errorf("%s\n%s", advice, stderr)
}

// serverVersion returns the engine's version, or an error if no engine answers.
func serverVersion(ctx context.Context) (string, error) {
	return docker(ctx, "version", "--format", "{{.Server.Version}}")
}

// haveImage reports whether the engine has an image.
func haveImage(ctx context.Context, image string) bool {
	_, err := docker(ctx, "image", "inspect", "--format", "{{.Id}}", image)
	return err == nil
}

// removeContainers removes every container of this run, running or not.
func removeContainers(ctx context.Context, label string) error {
	ids, err := docker(ctx, "ps", "--all", "--quiet", "--filter", "label="+label)
	if err != nil || ids == "" {
		return err
	}
	_, err = docker(ctx, append([]string{"rm", "--force"}, strings.Fields(ids)...)...)
	return err
}
