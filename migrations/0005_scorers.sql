CREATE TABLE `scorers` (
	`id` text PRIMARY KEY NOT NULL,
	`model` text NOT NULL,
	`base` text NOT NULL,
	`adapters` text NOT NULL,
	`calibration` text,
	`device` text NOT NULL,
	`tensorflow` text NOT NULL,
	`code_version` text NOT NULL,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
PRAGMA foreign_keys=OFF;--> statement-breakpoint
CREATE TABLE `__new_scores` (
	`id` text PRIMARY KEY NOT NULL,
	`axis` text NOT NULL,
	`model` text NOT NULL,
	`model_version` text NOT NULL,
	`calibration` text,
	`logit` real NOT NULL,
	`branch` text,
	`placed` text,
	`request` text,
	`messages` text,
	`created_at` integer NOT NULL
);
--> statement-breakpoint
INSERT INTO `__new_scores`(`id`, `axis`, `model`, `model_version`, `calibration`, `logit`, `messages`, `created_at`) SELECT `id`, `axis`, `model`, `model_version`, `calibration`, `logit`, `messages`, `created_at` FROM `scores`;--> statement-breakpoint
DROP TABLE `scores`;--> statement-breakpoint
ALTER TABLE `__new_scores` RENAME TO `scores`;--> statement-breakpoint
PRAGMA foreign_keys=ON;--> statement-breakpoint
CREATE INDEX `scores_created` ON `scores` (`created_at`,`id`);