{{- /* The relay as a container in a pod of another chart, which has this one as a dependency with `mode: sidecar`:

       initContainers:
         {{- include "gander.sidecar" .Subcharts.gander | nindent 8 }}
       volumes:
         {{- include "gander.sidecar.volumes" .Subcharts.gander | nindent 8 }}

The pod needs an `fsGroup`, and `enableServiceLinks: false`. */ -}}
{{- define "gander.sidecar" -}}
- name: gander
  image: "{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}"
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  # Kubernetes 1.29 and later: it starts before the sender, and ends after it.
  restartPolicy: Always
  ports:
    - { name: gander-admin, containerPort: 9180 }
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    allowPrivilegeEscalation: false
    readOnlyRootFilesystem: true
    capabilities:
      drop: [ALL]
    seccompProfile:
      type: RuntimeDefault
  startupProbe:
    httpGet: { path: /healthz, port: gander-admin }
    periodSeconds: 2
    failureThreshold: 450
  livenessProbe:
    httpGet: { path: /healthz, port: gander-admin }
    periodSeconds: 10
    timeoutSeconds: 5
    failureThreshold: 6
  resources:
    {{- toYaml .Values.resources | nindent 4 }}
  volumeMounts:
    - { name: gander-data, mountPath: /var/lib/gander }
    - { name: gander-config, mountPath: /etc/gander, readOnly: true }
    - { name: gander-secrets, mountPath: /run/secrets/gander, readOnly: true }
{{- end -}}

{{- define "gander.sidecar.volumes" -}}
- name: gander-data
  persistentVolumeClaim:
    claimName: {{ include "gander.name" . }}-data
- name: gander-config
  configMap:
    name: {{ include "gander.name" . }}
- name: gander-secrets
  secret:
    secretName: {{ .Values.secretName }}
    defaultMode: 0440
{{- end -}}
