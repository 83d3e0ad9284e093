CREATE TABLE `label_requests` (
	`id` text PRIMARY KEY NOT NULL,
	`run` text NOT NULL,
	`part` text NOT NULL,
	`axis` text NOT NULL,
	`prompt` text NOT NULL,
	`a` text NOT NULL,
	`b` text NOT NULL,
	`compared` text NOT NULL,
	`preference` text,
	`created_at` integer NOT NULL,
	FOREIGN KEY (`run`) REFERENCES `runs`(`id`) ON UPDATE no action ON DELETE no action
);
--> statement-breakpoint
CREATE INDEX `label_requests_run` ON `label_requests` (`run`,`part`);--> statement-breakpoint
CREATE INDEX `label_requests_compared` ON `label_requests` (`compared`);