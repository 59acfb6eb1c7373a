// Package prometheus runs Debian's Prometheus in tests, with all expressions of
// scripts/dist/grafana.json and scripts/dist/alerts.yaml. An expression without a result
// is a panel that stays empty, or an alert that never fires.
package prometheus
